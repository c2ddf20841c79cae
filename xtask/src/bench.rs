//! Runs a benchmark by its name, whichever package has it.

use crate::process::{cargo, run as run_program};
use crate::{Result, tree};

/// The comparison with other logs: a workspace of its own, because of its dependencies.
const ARENA: &str = "crates/shardwal-bench/arena/Cargo.toml";

pub(crate) fn run(arguments: &[String]) -> Result {
    let benches = benches()?;
    let Some((name, rest)) = arguments.split_first() else {
        println!("cargo xtask bench NAME [ARGUMENT ...]\n");
        for Bench { package, name } in &benches {
            println!("{name:24} {package}");
        }
        println!("{:24} {ARENA}", "arena");
        return Ok(());
    };
    if name == "arena" {
        let arena = ["run", "--release", "--manifest-path", ARENA, "--"];
        return run_program(cargo(arena).args(rest));
    }
    let Some(bench) = benches.iter().find(|bench| bench.name == *name) else {
        return Err(format!("no benchmark is named {name}; `cargo xtask bench` lists them").into());
    };
    let selected = ["bench", "--all-features", "--package", &bench.package, "--bench", name, "--"];
    run_program(cargo(selected).args(rest))
}

struct Bench {
    package: String,
    name: String,
}

/// The benchmarks in the manifests of all packages.
fn benches() -> Result<Vec<Bench>> {
    let mut benches = Vec::new();
    for package in tree::packages(&tree::root())? {
        let manifest = tree::read(&package.folder.join("Cargo.toml"))?;
        let names = manifest.split("[[bench]]\nname = \"").skip(1);
        benches.extend(names.filter_map(|rest| {
            let name = rest.split('"').next()?.to_owned();
            Some(Bench { package: package.name.clone(), name })
        }));
    }
    Ok(benches)
}
