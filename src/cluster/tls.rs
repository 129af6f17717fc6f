//! TLS between nodes: certificates on both sides, from authorities of the cluster's own, TLS 1.3 only.
//!
//! Certificates run out while a node runs: files that have changed are read again, and count for every connection
//! from then on.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use rustls::client::verify_server_name;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::version::TLS13;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector, server};

use super::greet::Io;
use crate::config::peers::{Peer, Place};

/// What a connection between nodes carries, told by ALPN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plane {
    /// Requests over HTTP/2.
    Data,
    /// A control session.
    Control,
}

impl Plane {
    #[must_use]
    pub fn alpn(self) -> &'static [u8] {
        match self {
            Self::Data => b"h2",
            Self::Control => b"hotseat-control",
        }
    }
}

/// Where the PEM files are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    pub ca: PathBuf,
    pub cert: PathBuf,
    pub key: PathBuf,
}

/// Why there can be no TLS: which setting, which file, and what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cluster.{key}: {}: {reason}", path.display())]
pub struct TlsError {
    /// `tls_ca`, `tls_cert` or `tls_key`.
    pub key: &'static str,
    pub path: PathBuf,
    pub reason: String,
}

/// How often it is looked whether files have changed.
const LOOK: Duration = Duration::from_secs(2);

/// What this node shows to peers and expects of them. Cheap to clone.
#[derive(Clone)]
pub struct Tls(Arc<Inner>);

struct Inner {
    files: TlsFiles,
    current: RwLock<Configs>,
}

/// What came of reading the files.
#[derive(Clone)]
struct Configs {
    server: Arc<ServerConfig>,
    data: Arc<ClientConfig>,
    control: Arc<ClientConfig>,
}

impl Tls {
    /// # Errors
    /// A file that cannot be read, has not in it what it should, or does not fit the others.
    pub fn read(files: &TlsFiles) -> Result<Self, TlsError> {
        let current = RwLock::new(Configs::read(files)?);
        Ok(Self(Arc::new(Inner { files: files.clone(), current })))
    }

    /// How to dial a peer's plane.
    #[must_use]
    pub fn client(&self, plane: Plane) -> Arc<ClientConfig> {
        let current = self.0.current.read().unwrap_or_else(PoisonError::into_inner);
        match plane {
            Plane::Data => current.data.clone(),
            Plane::Control => current.control.clone(),
        }
    }

    /// How peers are let in.
    #[must_use]
    pub fn server(&self) -> Arc<ServerConfig> {
        self.0.current.read().unwrap_or_else(PoisonError::into_inner).server.clone()
    }

    /// Reads files that change, for ever. What cannot be used is logged, and what was read before goes on; a set that
    /// is written file by file is used once it is whole.
    pub(super) async fn follow(self) {
        let mut seen = self.0.files.stamps();
        loop {
            tokio::time::sleep(LOOK).await;
            let stamps = self.0.files.stamps();
            if stamps == seen {
                continue;
            }
            seen = stamps;
            match Configs::read(&self.0.files) {
                Ok(configs) => {
                    *self.0.current.write().unwrap_or_else(PoisonError::into_inner) = configs;
                    tracing::info!("the certificates between nodes were read again");
                }
                Err(error) => tracing::warn!(%error, "the certificates read before are used on"),
            }
        }
    }
}

impl TlsFiles {
    /// When each was last written; `None` where it cannot be looked at.
    fn stamps(&self) -> [Option<SystemTime>; 3] {
        let written = |path: &PathBuf| std::fs::metadata(path).and_then(|file| file.modified()).ok();
        [&self.ca, &self.cert, &self.key].map(written)
    }
}

impl Configs {
    fn read(files: &TlsFiles) -> Result<Self, TlsError> {
        let roots = Arc::new(roots(&files.ca)?);
        let chain = certificates("tls_cert", &files.cert)?;
        let key = PrivateKeyDer::from_pem_file(&files.key)
            .map_err(|error| wrong("tls_key", &files.key, unread(&error, "private key")))?;
        let provider = Arc::new(default_provider());
        let of_ca = |error: &dyn std::fmt::Display| wrong("tls_ca", &files.ca, error.to_string());
        let of_key = |error: rustls::Error| {
            let reason = format!("it does not go with the certificate {}: {error}", files.cert.display());
            wrong("tls_key", &files.key, reason)
        };
        let verifier = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone())
            .build()
            .map_err(|error| of_ca(&error))?;
        let mut server = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&TLS13])
            .map_err(|error| of_ca(&error))?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain.clone(), key.clone_key())
            .map_err(of_key)?;
        server.alpn_protocols = [Plane::Data, Plane::Control].map(|plane| plane.alpn().to_vec()).into();
        let client = |plane: Plane| client(&provider, &roots, &chain, &key, plane).map_err(of_key);
        Ok(Self { server: Arc::new(server), data: client(Plane::Data)?, control: client(Plane::Control)? })
    }
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tls")
    }
}

fn client(
    provider: &Arc<CryptoProvider>,
    roots: &Arc<RootCertStore>,
    chain: &[CertificateDer<'static>],
    key: &PrivateKeyDer<'static>,
    plane: Plane,
) -> Result<Arc<ClientConfig>, rustls::Error> {
    let mut client = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&TLS13])?
        .with_root_certificates(roots.clone())
        .with_client_auth_cert(chain.to_vec(), key.clone_key())?;
    client.alpn_protocols = vec![plane.alpn().to_vec()];
    Ok(Arc::new(client))
}

fn roots(path: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates("tls_ca", path)? {
        roots.add(certificate).map_err(|error| wrong("tls_ca", path, error.to_string()))?;
    }
    Ok(roots)
}

fn certificates(key: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    let certificates = certificates.map_err(|error| wrong(key, path, unread(&error, "certificate")))?;
    if certificates.is_empty() {
        return Err(wrong(key, path, unread(&pem::Error::NoItemsFound, "certificate")));
    }
    Ok(certificates)
}

fn unread(error: &pem::Error, wanted: &str) -> String {
    match error {
        pem::Error::NoItemsFound => format!("there is no {wanted} in it"),
        pem::Error::Io(error) => format!("it cannot be read: {error}"),
        error => format!("it is no PEM file: {error:?}"),
    }
}

fn wrong(key: &'static str, path: &Path, reason: String) -> TlsError {
    TlsError { key, path: path.to_owned(), reason }
}

/// The dialling side. Without TLS the connection stays as it is; with it, the peer must prove to be `host`.
pub(super) async fn connect(
    stream: TcpStream,
    host: &str,
    tls: Option<&Tls>,
    plane: Plane,
) -> io::Result<Box<dyn Io>> {
    let Some(tls) = tls else { return Ok(Box::new(stream)) };
    let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
    Ok(Box::new(TlsConnector::from(tls.client(plane)).connect(name, stream).await?))
}

/// The accepting side. The peer must prove to be one of `hosts`; it has said what the connection is for.
pub(super) async fn accept(
    stream: TcpStream,
    tls: &Tls,
    hosts: &[ServerName<'static>],
) -> io::Result<(server::TlsStream<TcpStream>, Plane)> {
    let stream = TlsAcceptor::from(tls.server()).accept(stream).await?;
    let (_, session) = stream.get_ref();
    let invalid = |what: String| io::Error::new(io::ErrorKind::PermissionDenied, what);
    let shown = session.peer_certificates().and_then(<[_]>::first);
    let shown = shown.ok_or_else(|| invalid("it showed no certificate".to_owned()))?;
    let certificate = ParsedCertificate::try_from(shown).map_err(io::Error::other)?;
    if !hosts.iter().any(|host| verify_server_name(&certificate, host).is_ok()) {
        return Err(invalid("its certificate names no host of cluster.peers".to_owned()));
    }
    match session.alpn_protocol() {
        Some(name) if name == Plane::Data.alpn() => Ok((stream, Plane::Data)),
        Some(name) if name == Plane::Control.alpn() => Ok((stream, Plane::Control)),
        _ => Err(invalid("it did not say by ALPN what it wants".to_owned())),
    }
}

/// Whom certificates may be for.
pub(super) fn hosts(peers: &[Peer]) -> Vec<ServerName<'static>> {
    let hosts = peers.iter().map(Peer::place).map(|Place { host, .. }| ServerName::try_from(host.clone()));
    // What the configuration lets through and DNS does not, no certificate can name.
    hosts.filter_map(Result::ok).collect()
}
