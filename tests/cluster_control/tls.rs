//! Certificates for tests, of authorities of their own.

use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

/// An authority.
pub struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().expect("a key");
        let pem = params.self_signed(&key).expect("a certificate").pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    /// CA, certificate and key as files of a node at `host`, which trusts this authority.
    pub fn node(&self, dir: &Path, name: &str, host: &str) -> [PathBuf; 3] {
        let mut params = CertificateParams::new(vec![host.to_owned()]).expect("a host");
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        let texts = [self.pem.clone(), certificate.pem(), key.serialize_pem()];
        let paths = ["ca.pem", "cert.pem", "key.pem"].map(|file| dir.join(format!("{name}-{file}")));
        for (path, text) in paths.iter().zip(texts) {
            std::fs::write(path, text).expect("a file");
        }
        paths
    }
}
