//! TLS configuration: the certificate, its private key, and optionally the authority of
//! client certificates.

use std::{path::Path, sync::Arc};

use anyhow::{Context, Result, anyhow, bail};
use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem, pem::PemObject},
    server::WebPkiClientVerifier,
};

use crate::settings::TlsFiles;

/// Reads the TLS files. A new handshake uses the files that were read last; existing connections
/// keep their configuration.
pub(super) fn config(files: &TlsFiles) -> Result<Arc<ServerConfig>> {
    let TlsFiles { certificate, key, client_ca } = files;
    let chain = certificates(certificate, "http.certificate")?;
    let private = PrivateKeyDer::from_pem_file(key)
        .map_err(|error| unreadable("http.key", key, error, "a private key"))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider));
    let builder = builder.with_safe_default_protocol_versions().context("cannot set up TLS")?;
    let builder = match client_ca {
        None => builder.with_no_client_auth(),
        Some(client_ca) => {
            let mut roots = RootCertStore::empty();
            for root in certificates(client_ca, "http.client_ca")? {
                roots.add(root).with_context(|| unfit("http.client_ca", client_ca))?;
            }
            let verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            builder.with_client_cert_verifier(
                verifier.with_context(|| unfit("http.client_ca", client_ca))?,
            )
        }
    };
    let mut config = builder.with_single_cert(chain, private).with_context(|| {
        format!(
            "http.certificate {} and http.key {} do not match",
            certificate.display(),
            key.display()
        )
    })?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn certificates(path: &Path, name: &str) -> Result<Vec<CertificateDer<'static>>> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    let read: Vec<_> = read.map_err(|error| unreadable(name, path, error, "a certificate"))?;
    if read.is_empty() {
        bail!(
            "{name} {} contains no certificate; it must be PEM (-----BEGIN CERTIFICATE-----)",
            path.display()
        );
    }
    Ok(read)
}

fn unreadable(name: &str, path: &Path, error: pem::Error, wanted: &str) -> anyhow::Error {
    let shown = path.display();
    match error {
        pem::Error::Io(error) => anyhow!("cannot read {name} {shown}: {error}"),
        pem::Error::NoItemsFound => {
            anyhow!("{name} {shown} does not contain {wanted}; it must be PEM")
        }
        error => anyhow!("{name} {shown} is not {wanted} in PEM: {error}"),
    }
}

fn unfit(name: &str, path: &Path) -> String {
    format!("{name} {} cannot be used", path.display())
}
