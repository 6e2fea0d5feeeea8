//! HTTP settings of the configuration file.

use pfs_http::settings::{Limits, Settings, TlsFiles};

use super::{
    error::Mistake,
    file::{File, LimitsTable},
    saturating_usize, values,
};

const HOSTS_ALLOWED: &str =
    "a list of names, each with a port or without, such as [\"streams.example.org\"]";

const ORIGINS_ALLOWED: &str = "a list of origins, such as [\"https://player.example.org\"]";

/// Validates the HTTP settings of the file.
pub(super) fn settings(file: &File, max_connections: usize) -> Result<Settings, Mistake> {
    let hosts =
        values::list("http.allowed_hosts", &file.http.allowed_hosts, HOSTS_ALLOWED, str::parse)?;
    let given = &file.http.allowed_origins;
    let origins = values::list("http.allowed_origins", given, ORIGINS_ALLOWED, str::parse)?;
    Ok(Settings {
        address: values::http_address("listen.http", &file.listen.http)?,
        allowed_hosts: hosts.unwrap_or_default(),
        allowed_origins: origins.unwrap_or_default(),
        token_file: values::absolute_path("auth.token_file", &file.auth.token_file)?,
        tls: tls(file)?,
        limits: limits(&file.limits, max_connections)?,
    })
}

fn tls(file: &File) -> Result<Option<TlsFiles>, Mistake> {
    let certificate = values::absolute_path("http.certificate", &file.http.certificate)?;
    let key = values::absolute_path("http.key", &file.http.key)?;
    let client_ca = values::absolute_path("http.client_ca", &file.http.client_ca)?;
    match (certificate, key) {
        (Some(certificate), Some(key)) => Ok(Some(TlsFiles { certificate, key, client_ca })),
        (None, None) if client_ca.is_none() => Ok(None),
        (None, None) => {
            let reason = "http.client_ca needs http.certificate and http.key: clients send their certificates over TLS";
            Err(values::misplaced(&file.http.client_ca, reason))
        }
        (Some(_), None) => {
            let reason = "http.certificate needs http.key, the file of its private key";
            Err(values::misplaced(&file.http.certificate, reason))
        }
        (None, Some(_)) => {
            let reason =
                "http.key needs http.certificate, the file of the certificate for this key";
            Err(values::misplaced(&file.http.key, reason))
        }
    }
}

/// Validates the limits of HTTP. By default, one address may take half of all connections.
fn limits(table: &LimitsTable, max_connections: usize) -> Result<Limits, Mistake> {
    let mut limits = Limits::default();
    let given =
        values::count("limits.max_connections_per_address", &table.max_connections_per_address)?;
    limits.max_connections_per_address = given
        .map_or(max_connections.div_ceil(2), |count| saturating_usize(count).min(max_connections));
    let given = &table.max_header_size;
    if let Some(size) = values::size("limits.max_header_size", given)? {
        if !(1024..=1024 * 1024).contains(&size) {
            let reason =
                format!("limits.max_header_size = {size} is not allowed; allowed: 1KB to 1MB");
            return Err(values::misplaced(given, &reason));
        }
        limits.max_header_size = usize::try_from(size).unwrap_or(usize::MAX);
    }
    for (key, given, time) in [
        ("limits.header_time", &table.header_time, &mut limits.header_time),
        ("limits.idle_time", &table.idle_time, &mut limits.idle_time),
        ("limits.body_stall_time", &table.body_stall_time, &mut limits.body_stall_time),
        ("limits.long_poll_time", &table.long_poll_time, &mut limits.long_poll_time),
    ] {
        *time = values::duration(key, given)?.unwrap_or(*time);
    }
    Ok(limits)
}
