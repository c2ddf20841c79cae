//! Settings of a command, from its command line and a TOML file.
//!
//! A key of the file is the long name of an option, and that option parses the value. Options,
//! file and `--help` therefore share one definition. This file does not know what the options mean.

use std::ffi::OsString;
use std::fmt::Write;
use std::path::Path;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command};
use toml::de::{DeTable, DeValue};

/// Maximum columns of a line that [`Settings::as_toml`] wraps.
const COLUMNS_MAX: usize = 100;

/// Options that are no settings: they say where settings come from.
const NO_SETTINGS: [&str; 2] = ["config", "help"];

/// The settings in effect, and the command that defines them.
#[derive(Debug)]
pub(crate) struct Settings {
    command: Command,
    pub(crate) matches: ArgMatches,
}

impl Settings {
    /// Parses `arguments` and the file. An option on the command line overrides the file. Ends the
    /// program, as clap does, if the arguments are invalid.
    ///
    /// # Errors
    /// The file cannot be read, is not TOML, or has an unknown key or a bad value. The text names
    /// file, line and key.
    pub(crate) fn load(
        command: Command,
        arguments: &[OsString],
        file: Option<&Path>,
    ) -> Result<Self, String> {
        let parse = |more: Vec<OsString>| {
            let name = OsString::from(command.get_name());
            let all = std::iter::once(name).chain(more).chain(arguments.iter().cloned());
            command.clone().get_matches_from(all)
        };
        let mut matches = parse(Vec::new());
        if let Some(file) = file {
            let is_given = |option: &Arg| {
                matches.value_source(option.get_id().as_str()) == Some(ValueSource::CommandLine)
            };
            let more = File::read(file, &command)?.arguments(is_given);
            matches = parse(more);
        }
        Ok(Self { command, matches })
    }

    /// The settings as a file. Its comments are the help of the options, and the defaults.
    pub(crate) fn as_toml(&self) -> String {
        let mut text = String::new();
        comment(&mut text, &format!("Settings of `{} --config FILE`.", self.command.get_name()));
        comment(&mut text, "Those in comments have their defaults.");
        let options = self.command.get_arguments();
        for option in options.filter(|option| is_setting(option) && !option.is_hide_set()) {
            let help = option.get_help().map(ToString::to_string).unwrap_or_default();
            text.push('\n');
            comment(&mut text, &help);
            let source = self.matches.value_source(option.get_id().as_str());
            let is_default = source != Some(ValueSource::CommandLine);
            let key = option.get_long().unwrap_or_default();
            // Writing to a String does not fail.
            _ = writeln!(
                text,
                "{}{key} = {}",
                if is_default { "# " } else { "" },
                self.toml_value(option)
            );
        }
        text.trim_end().to_owned()
    }

    /// The value of an option. Without one, what the value is.
    fn toml_value(&self, option: &Arg) -> String {
        let values = self.matches.get_raw(option.get_id().as_str()).into_iter().flatten();
        let values: Vec<_> =
            values.map(|value| self.toml_scalar(option, &value.to_string_lossy())).collect();
        if matches!(option.get_action(), ArgAction::Append) {
            return format!("[{}]", values.join(", "));
        }
        values.into_iter().next().unwrap_or_else(|| {
            let name = option.get_value_names().and_then(<[_]>::first);
            name.map_or_else(String::new, |name| format!("<{name}>"))
        })
    }

    /// A number, if the option takes nothing else.
    fn toml_scalar(&self, option: &Arg, value: &str) -> String {
        let takes_text = check(&self.command, option, "text").is_ok();
        match value.parse::<i64>() {
            Ok(number) if !takes_text => number.to_string(),
            _ => toml::Value::from(value).to_string(),
        }
    }
}

/// A file of settings, checked.
struct File {
    settings: Vec<(Arg, Vec<String>)>,
}

impl File {
    fn read(file: &Path, command: &Command) -> Result<Self, String> {
        let at = file.display();
        let text =
            std::fs::read_to_string(file).map_err(|error| format!("--config {at}: {error}"))?;
        let line =
            |offset: usize| 1 + text.bytes().take(offset).filter(|byte| *byte == b'\n').count();
        let table = DeTable::parse(&text).map_err(|error| {
            let offset = error.span().map_or(0, |span| span.start);
            format!("{at}:{}: {}", line(offset), error.message())
        })?;
        let mut settings = Vec::new();
        for (key, value) in table.get_ref() {
            let name = key.get_ref().as_ref();
            let wrong = |offset, why| format!("{at}:{}: {name}: {why}", line(offset));
            let option = option(command, name).map_err(|why| wrong(key.span().start, why))?;
            let values = values(option, value.get_ref()).and_then(|values| {
                values.iter().try_for_each(|value| check(command, option, value))?;
                Ok(values)
            });
            let values = values.map_err(|why| wrong(value.span().start, why))?;
            settings.push((option.clone(), values));
        }
        Ok(Self { settings })
    }

    /// The file as arguments, without the options that are given otherwise.
    fn arguments(&self, is_given: impl Fn(&Arg) -> bool) -> Vec<OsString> {
        let settings = self.settings.iter().filter(|(option, _)| !is_given(option));
        settings
            .flat_map(|(option, values)| {
                let name = option.get_long().unwrap_or_default();
                values.iter().map(move |value| format!("--{name}={value}").into())
            })
            .collect()
    }
}

fn is_setting(option: &Arg) -> bool {
    option.get_long().is_some_and(|name| !NO_SETTINGS.contains(&name))
        && option.get_action().takes_values()
}

/// The option with this name, or what is wrong with the name.
fn option<'a>(command: &'a Command, name: &str) -> Result<&'a Arg, String> {
    let mut options = command.get_arguments().filter(|option| is_setting(option));
    let found = options.find(|option| option.get_long() == Some(name));
    found.ok_or_else(|| {
        let parsed =
            command.clone().no_binary_name(true).try_get_matches_from([format!("--{name}")]);
        let similar = parsed.err().and_then(|error| match error.get(ContextKind::SuggestedArg) {
            Some(ContextValue::String(similar)) => Some(similar.trim_start_matches('-').to_owned()),
            _ => None,
        });
        let similar =
            similar.map_or_else(String::new, |similar| format!("; did you mean {similar}?"));
        format!(
            "unknown key{similar}; `{} --help` lists the keys, with two dashes",
            command.get_name()
        )
    })
}

/// The values of an option, as text.
fn values(option: &Arg, value: &DeValue<'_>) -> Result<Vec<String>, String> {
    match value {
        DeValue::Array(values) if matches!(option.get_action(), ArgAction::Append) => {
            values.iter().map(|value| scalar(value.get_ref())).collect()
        }
        value => scalar(value).map(|value| vec![value]),
    }
}

fn scalar(value: &DeValue<'_>) -> Result<String, String> {
    match value {
        DeValue::String(text) => Ok(text.to_string()),
        DeValue::Integer(number) => i128::from_str_radix(number.as_str(), number.radix())
            .map(|number| number.to_string())
            .map_err(|error| format!("{number}: {error}")),
        other => Err(format!("it is a {}; write a string or an integer", other.type_str())),
    }
}

/// Parses a value as the option does.
fn check(command: &Command, option: &Arg, value: &str) -> Result<(), String> {
    let name = option.get_long().unwrap_or_default();
    let parsed =
        command.clone().no_binary_name(true).try_get_matches_from([format!("--{name}={value}")]);
    match parsed {
        // Other options are checked later, with the command line.
        Err(error) if error.kind() != ErrorKind::MissingRequiredArgument => {
            let text = error.to_string();
            let lines = text.lines().take_while(|line| !line.is_empty()).map(str::trim);
            let text = lines.collect::<Vec<_>>().join(" ");
            Err(text.trim_start_matches("error: ").to_owned())
        }
        _ => Ok(()),
    }
}

/// Appends a comment, wrapped.
fn comment(text: &mut String, words: &str) {
    let mut column = 0;
    for word in words.split_whitespace() {
        if column == 0 || column + 1 + word.len() > COLUMNS_MAX {
            text.push_str(if column == 0 { "#" } else { "\n#" });
            column = 1;
        }
        text.push(' ');
        text.push_str(word);
        column += 1 + word.len();
    }
    text.push('\n');
}
