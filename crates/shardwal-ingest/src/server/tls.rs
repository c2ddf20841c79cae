//! TLS: the certificate that a server shows. Its files are read again when they change, so that a
//! certificate is renewed without a restart. This file does not know connections or requests.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::ServerConfig;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

/// Time between two looks at the files.
const LOOK_PAUSE: Duration = Duration::from_secs(5);

/// The files of a certificate, in PEM.
#[derive(Clone, Debug)]
pub(crate) struct Files {
    /// The certificates: the server's own, then those that lead to a root.
    pub(crate) certificates: PathBuf,
    /// The private key of the server's own certificate.
    pub(crate) key: PathBuf,
}

/// The TLS side of a server.
pub(crate) struct Tls {
    files: Files,
    current: Mutex<Current>,
}

/// What the next connection uses.
struct Current {
    /// What the files held at the last look, valid or not.
    seen: Pem,
    config: Arc<ServerConfig>,
}

/// What the two files hold.
#[derive(Eq, PartialEq)]
struct Pem {
    certificates: Vec<u8>,
    key: Vec<u8>,
}

impl Tls {
    /// Reads the files, and looks at them again from a task. Blocks.
    ///
    /// # Errors
    /// A file cannot be read, has no certificate or no key, or the two do not belong together. The
    /// text names the file.
    pub(crate) fn start(files: Files) -> Result<Arc<Self>, String> {
        let seen = files.read()?;
        let config = files.config(&seen)?;
        let tls = Arc::new(Self { files, current: Mutex::new(Current { seen, config }) });
        tokio::spawn(Arc::clone(&tls).keep_current());
        Ok(tls)
    }

    /// The acceptor of the next connection.
    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        let current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        TlsAcceptor::from(Arc::clone(&current.config))
    }

    /// Looks at the files every few seconds, for ever.
    async fn keep_current(self: Arc<Self>) {
        loop {
            tokio::time::sleep(LOOK_PAUSE).await;
            let tls = Arc::clone(&self);
            tokio::task::spawn_blocking(move || tls.look()).await.ok();
        }
    }

    /// Reads the files again. If they changed, later connections use what they hold now. If that is
    /// invalid, the earlier certificate stays, because the files may be half renewed.
    fn look(&self) {
        // A file that is missing for a moment is being replaced.
        let Ok(pem) = self.files.read() else { return };
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if pem == current.seen {
            return;
        }
        match self.files.config(&pem) {
            Ok(config) => {
                current.config = config;
                tracing::info!(file = %self.files.certificates.display(), "took the new certificate");
            }
            Err(error) => tracing::error!(error, "the earlier certificate stays in use"),
        }
        current.seen = pem;
    }
}

impl Files {
    fn read(&self) -> Result<Pem, String> {
        let read = |path: &Path| {
            std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))
        };
        Ok(Pem { certificates: read(&self.certificates)?, key: read(&self.key)? })
    }

    fn config(&self, pem: &Pem) -> Result<Arc<ServerConfig>, String> {
        let of = |path: &Path, what: String| format!("{}: {what}", path.display());
        let certificates = CertificateDer::pem_slice_iter(&pem.certificates)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| of(&self.certificates, error.to_string()))?;
        if certificates.is_empty() {
            return Err(of(&self.certificates, "there is no certificate in PEM".into()));
        }
        let key = PrivateKeyDer::from_pem_slice(&pem.key)
            .map_err(|error| of(&self.key, format!("no private key in PEM: {error}")))?;
        let fits = |error: rustls::Error| {
            let key = self.key.display();
            of(&self.certificates, format!("it cannot be used with the key in {key}: {error}"))
        };
        let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(fits)?
            .with_no_client_auth()
            .with_single_cert(certificates, key)
            .map_err(fits)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}
