//! TLS: senders over it, its certificate, and clients that never agree on it.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::server_support::{SNAPPY, Server, block, program, request};

/// A certificate for `localhost` and its key, in files.
struct Certificate {
    files: [PathBuf; 2],
    certificate: CertificateDer<'static>,
}

impl Certificate {
    fn new(directory: &Path, name: &str) -> Self {
        let files = ["crt", "key"].map(|kind| directory.join(format!("{name}.{kind}")));
        let certificate = renew(&files);
        Self { files, certificate }
    }

    fn options(&self) -> [&str; 4] {
        let [certificates, key] =
            self.files.each_ref().map(|file| file.to_str().expect("it is UTF-8"));
        ["--tls-cert", certificates, "--tls-key", key]
    }
}

/// Writes a new certificate and its key.
fn renew([certificates, key]: &[PathBuf; 2]) -> CertificateDer<'static> {
    let made = generate_simple_self_signed(["localhost".to_owned()]);
    let CertifiedKey { cert, signing_key } = made.expect("it can be made");
    std::fs::write(certificates, cert.pem()).expect("the folder exists");
    std::fs::write(key, signing_key.serialize_pem()).expect("the folder exists");
    cert.der().clone()
}

/// Sends a request over TLS, and returns the answer. Trusts only this certificate.
fn send(address: &str, trusted: &CertificateDer<'static>, sent: &[u8]) -> io::Result<String> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.clone()).expect("it is a certificate");
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the provider has them")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = "localhost".try_into().expect("it is a name");
    let stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    let connection = ClientConnection::new(Arc::new(config), name).expect("it is valid");
    let mut stream = StreamOwned::new(connection, stream);
    stream.write_all(sent)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

fn post(path: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}\
         Content-Length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

#[test]
fn a_sender_over_tls_is_answered_and_a_plain_one_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let certificate = Certificate::new(directory.path(), "server");
    let log = directory.path().join("log");
    let server = Server::start(&log, &certificate.options());
    let body = block(&request(&["a"], &[(1, 1.0), (2, 2.0)]));
    let sent = post("/api/v1/write", SNAPPY, &body);
    let answer = send(&server.address, &certificate.certificate, &sent).unwrap();
    assert!(answer.starts_with("HTTP/1.1 204"), "{answer}");

    let mut plain = TcpStream::connect(&server.address).unwrap();
    plain.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    plain.write_all(&sent).unwrap();
    let mut answer = Vec::new();
    // A TLS alert, or an end.
    plain.read_to_end(&mut answer).ok();
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");

    assert_eq!(server.stop("-TERM").code(), Some(0));
    let server = Server::start(&log, &[]);
    assert_eq!(server.count("a"), 2, "what was acknowledged is replayed");
}

#[test]
fn a_renewed_certificate_is_taken_and_half_of_one_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let first = Certificate::new(directory.path(), "server");
    let other = Certificate::new(directory.path(), "other");
    let mut server = Server::start(&directory.path().join("log"), &first.options());
    let health = post("/write", "", b"m f=1 1");

    // Half of it: the certificate is new, and the key is that of the first.
    std::fs::copy(&other.files[0], &first.files[0]).unwrap();
    std::thread::sleep(Duration::from_secs(6));
    let answer = send(&server.address, &first.certificate, &health).unwrap();
    assert!(answer.starts_with("HTTP/1.1 204"), "the first is still in use: {answer}");

    std::fs::copy(&other.files[1], &first.files[1]).unwrap();
    server.wait_for("took the new certificate");
    let answer = send(&server.address, &other.certificate, &health).unwrap();
    assert!(answer.starts_with("HTTP/1.1 204"), "{answer}");
    let error = send(&server.address, &first.certificate, &health).unwrap_err();
    assert!(error.to_string().contains("certificate"), "{error}");
}

#[test]
fn a_certificate_that_cannot_be_used_is_refused_at_start() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let [first, other] = ["first", "other"].map(|name| Certificate::new(directory.path(), name));
    let [certificate, key] = first.files.each_ref().map(|file| file.to_str().unwrap());
    let (missing, empty) = (path("missing"), path("empty"));
    std::fs::write(&empty, "").unwrap();
    let other_key = other.files[1].to_str().unwrap();
    let cases: [(&[&str], &[&str]); 6] = [
        (&["--tls-cert", certificate], &["--tls-key"]),
        (&["--tls-key", key], &["--tls-cert"]),
        (&["--tls-cert", &missing, "--tls-key", key], &[&missing]),
        (&["--tls-cert", &empty, "--tls-key", key], &[&empty, "no certificate"]),
        (&["--tls-cert", certificate, "--tls-key", &empty], &[&empty, "no private key"]),
        (&["--tls-cert", certificate, "--tls-key", other_key], &[certificate, other_key]),
    ];
    for (options, expected) in cases {
        let mut command = Command::new(program());
        command.args(["serve", "--listen", "127.0.0.1:0", "--dir", &path("log")]);
        let ended = command.args(options).output().unwrap();
        let error = String::from_utf8(ended.stderr).unwrap();
        assert!(!ended.status.success(), "{options:?}");
        assert!(expected.iter().all(|part| error.contains(part)), "{options:?}: {error}");
    }
}

#[test]
fn a_client_that_never_agrees_on_tls_keeps_no_connection() {
    let directory = tempfile::tempdir().unwrap();
    let certificate = Certificate::new(directory.path(), "server");
    let options = [&certificate.options()[..], &["--connections-max", "1"]].concat();
    let server = Server::start(&directory.path().join("log"), &options);
    let silent = TcpStream::connect(&server.address).unwrap();
    let sent = post("/write", "", b"m f=1 1");
    let answer = send(&server.address, &certificate.certificate, &sent).unwrap();
    assert!(answer.starts_with("HTTP/1.1 204"), "{answer}");
    let another = TcpStream::connect(&server.address).unwrap();
    assert_eq!(server.stop("-TERM").code(), Some(0));
    drop((silent, another));
}
