//! The parameters of a read: those of its URL, and of a form in its body. This file does not know
//! what they mean.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, Method};

use super::body;
use super::budget::{Budget, Reservation};
use super::headers;
use super::refusal::Refusal;

/// Maximum bytes of a form.
const FORM_BYTES_MAX: usize = 1 << 20;

/// Maximum number of parameters.
const PARAMETERS_MAX: usize = 1024;

/// Names and values, in order.
#[derive(Debug)]
pub(crate) struct Parameters {
    pairs: Vec<(String, String)>,
    /// Covers the bytes of a form.
    _reservation: Reservation,
}

impl Parameters {
    /// Reads the parameters of a request.
    ///
    /// # Errors
    /// The body is not a form, or too large, or there are too many parameters.
    pub(crate) async fn read(budget: &Arc<Budget>, request: Request) -> Result<Self, Refusal> {
        let (parts, body) = request.into_parts();
        let in_url = parts.uri.query().unwrap_or_default().as_bytes();
        let (form, _reservation) = match parts.method {
            Method::POST => form(budget, &parts.headers, body).await?,
            _ => (Vec::new(), budget.reserve_nothing()),
        };
        let pairs = form_urlencoded::parse(in_url).chain(form_urlencoded::parse(&form));
        let owned = pairs.map(|(name, value)| (name.into_owned(), value.into_owned()));
        let pairs: Vec<_> = owned.take(PARAMETERS_MAX + 1).collect();
        if pairs.len() > PARAMETERS_MAX {
            let why = format!("a read has more than {PARAMETERS_MAX} parameters");
            return Err(Refusal::Invalid(why));
        }
        Ok(Self { pairs, _reservation })
    }

    /// The first value of a name. An empty value counts as none.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let found = self.pairs.iter().find(|(found, _)| found == name);
        found.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }

    /// All values of a name.
    pub(crate) fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.pairs.iter().filter(move |(found, _)| found == name).map(|(_, value)| value.as_str())
    }
}

/// Reads a form, as Grafana sends one.
async fn form(
    budget: &Arc<Budget>,
    headers: &HeaderMap,
    body: Body,
) -> Result<(Vec<u8>, Reservation), Refusal> {
    let (bytes, reservation) = body::read(budget, FORM_BYTES_MAX, body).await?;
    // Clients of InfluxDB 1 name other types, and send no body.
    if !bytes.is_empty() {
        headers::check_type(headers, &headers::FORM)?;
    }
    Ok((bytes, reservation))
}
