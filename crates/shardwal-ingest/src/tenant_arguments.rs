//! The arguments of `serve` about tenants.

use std::collections::HashMap;
use std::num::NonZero;
use std::str::FromStr;

use axum::http::HeaderName;
use clap::Args;

use crate::server::{TenantBy, TenantLimits, TenantSettings};

#[derive(Clone, Debug, Args)]
pub(crate) struct TenantArguments {
    /// Limit each tenant, and take its name from this header of a request
    #[arg(long, value_name = "NAME")]
    tenant_header: Option<HeaderName>,

    /// Limit each tenant, and take its name from this label of a series
    #[arg(long, value_name = "NAME")]
    tenant_label: Option<String>,

    /// Maximum number of series per tenant; new ones beyond are left out [default: no limit]
    #[arg(long, value_name = "SERIES")]
    tenant_series_max: Option<u64>,

    /// Maximum samples per second and tenant, on average; requests beyond get a 429 [default: no
    /// limit]
    #[arg(long, value_name = "SAMPLES")]
    tenant_samples_per_second: Option<NonZero<u64>>,

    /// The limits of one tenant, as NAME:series=N,samples-per-second=N; may be repeated
    #[arg(long, value_name = "LIMITS")]
    tenant_limits: Vec<Named>,

    /// Maximum number of tenants that are kept, beside those with limits of their own; further ones
    /// share one account
    #[arg(long, value_name = "TENANTS", default_value = "1000")]
    tenants_max: usize,
}

/// The limits of one tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Named {
    name: String,
    limits: TenantLimits,
}

impl FromStr for Named {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // A name may contain colons.
        let form = "write NAME:series=N,samples-per-second=N";
        let (name, rest) = text.rsplit_once(':').ok_or(form)?;
        let mut limits = TenantLimits::default();
        for limit in rest.split(',') {
            let (key, number) = limit.split_once('=').ok_or(form)?;
            let number: NonZero<u64> =
                number.trim().parse().map_err(|error| format!("{limit}: {error}"))?;
            match key.trim() {
                "series" => limits.series_max = Some(number.get()),
                "samples-per-second" => limits.samples_per_second = Some(number.get()),
                _ => return Err(format!("{key:?} is no limit: {form}")),
            }
        }
        Ok(Self { name: name.trim().to_owned(), limits })
    }
}

impl TenantArguments {
    /// The settings. `None` without tenants.
    ///
    /// # Errors
    /// The arguments contradict each other.
    pub(crate) fn settings(&self) -> Result<Option<TenantSettings>, String> {
        let by = match (&self.tenant_header, &self.tenant_label) {
            (Some(_), Some(_)) => {
                return Err("--tenant-header and --tenant-label exclude each other".to_owned());
            }
            (Some(header), None) => TenantBy::Header(header.clone()),
            (None, Some(label)) => TenantBy::Label(label.clone()),
            (None, None) => return self.without_tenants().map(|()| None),
        };
        let default = TenantLimits {
            series_max: self.tenant_series_max,
            samples_per_second: self.tenant_samples_per_second.map(NonZero::get),
        };
        let named: HashMap<_, _> =
            self.tenant_limits.iter().map(|named| (named.name.clone(), named.limits)).collect();
        if named.len() < self.tenant_limits.len() {
            return Err("--tenant-limits: a tenant has limits twice".to_owned());
        }
        Ok(Some(TenantSettings { by, default, named, tenants_max: self.tenants_max }))
    }

    /// Checks that there are no limits on tenants that nothing names.
    fn without_tenants(&self) -> Result<(), String> {
        let limited = self.tenant_series_max.is_some() || self.tenant_samples_per_second.is_some();
        if limited || !self.tenant_limits.is_empty() {
            let give = "give --tenant-header or --tenant-label";
            return Err(format!("limits per tenant need the tenants' names: {give}"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{Named, TenantLimits};

    #[test]
    fn limits_of_one_tenant_are_parsed_or_refused() {
        let named = |text: &str| text.parse::<Named>();
        let limits = TenantLimits { series_max: Some(5), samples_per_second: Some(7) };
        let expected = Named { name: "a:b".to_owned(), limits };
        assert_eq!(named("a:b: series = 5, samples-per-second=7"), Ok(expected));
        let limits = TenantLimits { series_max: None, samples_per_second: Some(1) };
        assert_eq!(named(":samples-per-second=1").map(|named| named.limits), Ok(limits));
        for bad in ["a", "a:", "a:series", "a:series=0", "a:series=x", "a:rows=1", "a:series=1,"] {
            assert!(named(bad).is_err(), "{bad}");
        }
    }
}
