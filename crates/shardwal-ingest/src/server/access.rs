//! Access: which requests a server answers at all. It knows tokens, hosts and origins, not what a
//! request asks for.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Response, StatusCode, Uri, header};
use axum::middleware::Next;
use subtle::ConstantTimeEq;

use super::body;

/// Which requests are answered at all.
#[derive(Clone, Debug, Default)]
pub(crate) struct Access {
    /// The token that each request must carry, if there is one.
    pub(crate) token: Option<String>,
    /// The hosts that requests may name, without ports. If there are none, any host.
    pub(crate) hosts: Vec<String>,
}

/// Passes a request on, or refuses it.
pub(crate) async fn check(
    State(access): State<Arc<Access>>,
    request: Request,
    next: Next,
) -> Response<Body> {
    let refused = access.refuse(request.headers(), request.uri());
    let Some((status, why)) = refused else { return next.run(request).await };
    let (parts, body) = request.into_parts();
    body::discard_refused(&parts.headers, body).await;
    let mut response = Response::new(Body::from(format!("{why}\n")));
    *response.status_mut() = status;
    if status == StatusCode::UNAUTHORIZED {
        let bearer = HeaderValue::from_static("Bearer");
        response.headers_mut().insert(header::WWW_AUTHENTICATE, bearer);
    }
    response
}

impl Access {
    /// The status and the reason of a refusal.
    fn refuse(&self, headers: &HeaderMap, uri: &Uri) -> Option<(StatusCode, &'static str)> {
        let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
        let host = uri.authority().map_or(text(header::HOST), |found| Some(found.as_str()));
        let host = host.unwrap_or_default();
        let is_allowed = |host: &str| {
            self.hosts.iter().any(|allowed| allowed.eq_ignore_ascii_case(without_port(host)))
        };
        if !self.hosts.is_empty() && !is_allowed(host) {
            return Some((StatusCode::FORBIDDEN, "the host is not allowed; see --allowed-host"));
        }
        // A browser sends the origin of the page that makes a request.
        let origin = text(header::ORIGIN).map(|origin| {
            origin.split_once("://").map_or(origin, |(_scheme, authority)| authority)
        });
        if origin.is_some_and(|origin| !origin.eq_ignore_ascii_case(host) && !is_allowed(origin)) {
            return Some((StatusCode::FORBIDDEN, "a page of another origin sent this request"));
        }
        let token = self.token.as_ref()?;
        let sent = text(header::AUTHORIZATION).and_then(|value| value.split_once(' '));
        let is_sent = sent.is_some_and(|(scheme, sent)| {
            // InfluxDB's clients say `Token`.
            let known = ["bearer", "token"].iter().any(|each| scheme.eq_ignore_ascii_case(each));
            known && bool::from(sent.trim().as_bytes().ct_eq(token.as_bytes()))
        });
        (!is_sent).then_some((StatusCode::UNAUTHORIZED, "the token is missing or wrong"))
    }
}

fn without_port(host: &str) -> &str {
    match host.rfind(':') {
        Some(at) if !host[at..].contains(']') => &host[..at],
        _ => host,
    }
}
