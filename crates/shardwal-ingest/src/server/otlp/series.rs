//! The series of data points: their labels, by the rules of Prometheus for OTLP, without changing
//! any name. This file does not know samples.
//!
//! | label | from |
//! |---|---|
//! | `__name__` | the metric's name, with `_bucket`, `_sum` or `_count` |
//! | `job` | `service.namespace/service.name` of the resource |
//! | `instance` | `service.instance.id` of the resource |
//! | `otel_scope_*` | name, version, schema and attributes of the scope |
//! | `le`, `quantile` | the bound of a bucket, the quantile of a summary |
//! | others | the attributes of the point |
//!
//! An attribute with the name of one of these labels becomes `exported_NAME`, as in a scrape.

use std::borrow::Cow;

use shardwal_timeseries::{LABELS_BYTES_MAX, LABELS_MAX, LabelLimits, Labels, METRIC_NAME};

use super::attributes::{for_each, pairs, text, value_text};
use crate::server::excerpt::excerpt;
use crate::server::protobuf::{Malformed, Reader, Value};
use crate::server::refusal::WithOption;

/// The metric with the attributes of a resource.
const TARGET_INFO: &str = "target_info";

/// The number of the field that holds a resource's attributes.
const RESOURCE_ATTRIBUTES: u64 = 1;
const SCOPE_ATTRIBUTES: u64 = 3;

/// Maximum bytes of `job`, and of `instance`: each scope of a resource copies them.
const IDENTITY_BYTES_MAX: usize = 1024;

/// The sender of the points, and what it says about itself.
#[derive(Debug, Default)]
pub(super) struct Resource<'a> {
    job: String,
    instance: String,
    /// Whether one of the two is too long for a label.
    is_too_long: bool,
    /// Attributes beside those that the two labels are from, as far as labels can hold them.
    others: Vec<(&'a str, String)>,
    /// Number of all of these.
    others_count: u64,
}

impl<'a> Resource<'a> {
    /// Reads a resource.
    ///
    /// # Errors
    /// The bytes are not a resource.
    pub(super) fn read(message: &'a [u8]) -> Result<Self, Malformed> {
        let mut resource = Self::default();
        let (mut name, mut namespace) = (String::new(), String::new());
        let mut bytes = 0;
        for_each(message, RESOURCE_ATTRIBUTES, |key, value| {
            match key {
                "service.namespace" => namespace = value_text(value)?,
                "service.name" => name = value_text(value)?,
                "service.instance.id" => resource.instance = value_text(value)?,
                _ => {
                    resource.others_count += 1;
                    bytes += key.len() + value.len();
                    if bytes <= LABELS_BYTES_MAX && resource.others.len() <= LABELS_MAX {
                        resource.others.push((key, value_text(value)?));
                    }
                }
            }
            Ok(())
        })?;
        let has_both = !namespace.is_empty() && !name.is_empty();
        resource.job = if has_both { format!("{namespace}/{name}") } else { name };
        resource.is_too_long = resource.job.len().max(resource.instance.len()) > IDENTITY_BYTES_MAX;
        if resource.is_too_long {
            (resource.job, resource.instance) = Default::default();
        }
        Ok(resource)
    }

    /// Whether its points can be stored.
    pub(super) fn is_valid(&self) -> bool {
        !self.is_too_long
    }

    /// Number of attributes that only [`TARGET_INFO`] has.
    pub(super) fn others(&self) -> u64 {
        self.others_count
    }

    /// The labels of [`TARGET_INFO`]. `None` if there is nothing to say, or nobody to say it of.
    pub(super) fn target_info(&self, limits: LabelLimits) -> Option<Labels> {
        if self.others.len() as u64 != self.others_count || self.others.is_empty() {
            return None;
        }
        if self.job.is_empty() && self.instance.is_empty() {
            return None;
        }
        let base = Base::new(self);
        let attributes = self.others.iter().map(|(key, value)| (*key, value.as_str()));
        base.labels(limits, TARGET_INFO, None, attributes).ok()
    }
}

/// The labels that all series of a scope have.
#[derive(Debug)]
pub(super) struct Base {
    labels: Vec<(Cow<'static, str>, String)>,
}

impl Base {
    fn new(resource: &Resource<'_>) -> Self {
        let labels = [("job", &resource.job), ("instance", &resource.instance)];
        let labels = labels.map(|(name, value)| (name.into(), value.clone()));
        Self { labels: labels.into() }
    }

    /// Reads a scope.
    ///
    /// # Errors
    /// The bytes are not a scope.
    pub(super) fn read(
        resource: &Resource<'_>,
        scope: &[u8],
        schema_url: &[u8],
    ) -> Result<Self, Malformed> {
        let mut base = Self::new(resource);
        let mut reader = Reader { rest: scope };
        while let Some((number, value)) = reader.field()? {
            let name = match number {
                1 => "otel_scope_name",
                2 => "otel_scope_version",
                _ => continue,
            };
            if let Value::Bytes(bytes) = value {
                base.labels.retain(|(found, _)| found != name);
                base.labels.push((name.into(), text(bytes)?.to_owned()));
            }
        }
        base.labels.push(("otel_scope_schema_url".into(), text(schema_url)?.to_owned()));
        for (key, value) in pairs(scope, SCOPE_ATTRIBUTES)? {
            base.labels.push((format!("otel_scope_{key}").into(), value));
        }
        base.labels.retain(|(_, value)| !value.is_empty());
        Ok(base)
    }

    /// Bytes of its names and values.
    pub(super) fn bytes(&self) -> usize {
        self.labels.iter().map(|(name, value)| name.len() + value.len()).sum()
    }

    /// Appends bytes that name it among others.
    pub(super) fn write_key(&self, key: &mut Vec<u8>) {
        for (name, value) in &self.labels {
            for part in [name.as_bytes(), value.as_bytes()] {
                key.extend((part.len() as u64).to_le_bytes());
                key.extend_from_slice(part);
            }
        }
    }

    /// The labels of a series. `extra` is a label of its own.
    ///
    /// # Errors
    /// The labels are invalid. The text says why.
    pub(super) fn labels<'a>(
        &'a self,
        limits: LabelLimits,
        name: &'a str,
        extra: Option<(&'static str, String)>,
        attributes: impl Iterator<Item = (&'a str, &'a str)>,
    ) -> Result<Labels, String> {
        let attributes: Vec<(&str, &str)> = attributes.collect();
        let base = self.labels.iter().map(|(name, value)| (name.as_ref(), value.as_str()));
        let mut labels: Vec<(Cow<'_, str>, &str)> = vec![(METRIC_NAME.into(), name)];
        labels.extend(base.map(|(name, value)| (name.into(), value)));
        labels.extend(extra.as_ref().map(|(name, value)| ((*name).into(), value.as_str())));
        let reserved = labels.iter().filter(|(_, value)| !value.is_empty()).count();
        labels.retain(|(_, value)| !value.is_empty());
        for (key, value) in &attributes {
            let mut name = Cow::Borrowed(*key);
            let is_reserved =
                |name: &str| labels[..reserved].iter().any(|(found, _)| found == name);
            while is_reserved(&name)
                || name.len() > key.len() && attributes.iter().any(|(found, _)| *found == name)
            {
                if name.len() > LABELS_BYTES_MAX {
                    return Err("the name of an attribute is too long".to_owned());
                }
                name = format!("exported_{name}").into();
            }
            labels.push((name, value));
        }
        Labels::within(labels, limits).map_err(|error| excerpt(&WithOption(&error)))
    }
}
