//! Remote mounts, from the configuration file and from `--mount`.

use std::path::PathBuf;

use pfs_client::{EndpointError, HttpEndpoint};
use pfs_remote::{Keep, RemoteSettings, mounted_path};

use super::{
    error::Mistake,
    file::{File, MountTable},
    values,
};

const URLS_ALLOWED: &str = "the URL of a mount of another daemon, such as \"http://camera:4437/streamfs\", or a list of URLs";

/// A remote mount, whose files are not read yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remote {
    path: String,
    endpoints: Vec<HttpEndpoint>,
    mounted: String,
    keep: Keep,
    read_only: bool,
    token_file: Option<PathBuf>,
    ca_file: Option<PathBuf>,
    client_cert_file: Option<PathBuf>,
}

impl Remote {
    /// The path of the mount.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Reads the files that the mount needs.
    ///
    /// # Errors
    ///
    /// A file cannot be read, or does not hold what it should.
    pub(crate) fn load(&self) -> Result<RemoteSettings, EndpointError> {
        let load = |mut endpoint: HttpEndpoint| {
            if let Some(file) = &self.token_file {
                endpoint = endpoint.with_token_file(file)?;
            }
            if let Some(file) = &self.ca_file {
                endpoint = endpoint.with_ca_file(file)?;
            }
            if let Some(file) = &self.client_cert_file {
                endpoint = endpoint.with_identity_file(file)?;
            }
            Ok(endpoint.into())
        };
        let endpoints = self.endpoints.iter().cloned().map(load).collect::<Result<_, _>>()?;
        let (path, mounted) = (self.path.clone(), self.mounted.clone());
        let (keep, read_only) = (self.keep, self.read_only);
        Ok(RemoteSettings { path, endpoints, mounted, keep, read_only })
    }
}

/// Reads the tables `[mounts.NAME]`.
pub(super) fn read(file: &File, local: &[String]) -> Result<Vec<Remote>, Mistake> {
    let mut taken = local.to_vec();
    let mut mounts = Vec::new();
    for (name, table) in &file.mounts {
        let mount = mount(name.get_ref(), table)?.ok_or_else(|| Mistake {
            at: Some(name.span()),
            reason: format!("mounts.{0} needs mounts.{0}.path and mounts.{0}.url", name.get_ref()),
        })?;
        if taken.iter().any(|path| path == mount.path()) {
            let reason = format!("two mounts have the path {}", mount.path());
            return Err(values::misplaced(&table.path, &reason));
        }
        taken.push(mount.path().to_owned());
        mounts.push(mount);
    }
    Ok(mounts)
}

/// Reads one table. `None` if the path or the URL is missing.
fn mount(name: &str, table: &MountTable) -> Result<Option<Remote>, Mistake> {
    let key = |key: &str| format!("mounts.{name}.{key}");
    let path = values::mount(&key("path"), &table.path)?;
    let urls = values::one_or_more(&key("url"), &table.url, URLS_ALLOWED, endpoint)?;
    let token_file = values::absolute_path(&key("token_file"), &table.token_file)?;
    let ca_file = values::absolute_path(&key("ca_file"), &table.ca_file)?;
    let file = &table.client_cert_file;
    let client_cert_file = values::absolute_path(&key("client_cert_file"), file)?;
    let keep = values::keep(&key("keep"), &table.keep)?.unwrap_or_default();
    let read_only = values::boolean(&key("read_only"), &table.read_only)?.unwrap_or_default();
    let (Some(path), Some(urls)) = (path, urls) else { return Ok(None) };
    let mounted = urls.first().map(|(_, mounted)| mounted.clone()).unwrap_or_default();
    if urls.iter().any(|(_, other)| *other != mounted) {
        let reason = format!("{} must end with the same mount in all URLs", key("url"));
        return Err(values::misplaced(&table.url, &reason));
    }
    let endpoints = urls.into_iter().map(|(endpoint, _)| endpoint).collect();
    Ok(Some(Remote {
        path,
        endpoints,
        mounted,
        keep,
        read_only,
        token_file,
        ca_file,
        client_cert_file,
    }))
}

/// The daemon and the mount that a URL names.
fn endpoint(url: &str) -> Result<(HttpEndpoint, String), String> {
    let (daemon, mounted) = mounted_path(url).map_err(|error| error.to_string())?;
    let endpoint = HttpEndpoint::new(&daemon).map_err(|error| error.to_string())?;
    Ok((endpoint, mounted))
}

/// Parses the value of `--mount`: `/edge=http://host:4437/streamfs`.
///
/// # Errors
///
/// What is wrong, for the user.
pub(crate) fn parse(text: &str) -> Result<Remote, String> {
    let (path, url) = text
        .split_once('=')
        .ok_or("write the path and the URL: /edge=http://HOST:4437/streamfs")?;
    values::mount_path(path)?;
    let (one, mounted) = endpoint(url)?;
    Ok(Remote {
        path: path.to_owned(),
        endpoints: vec![one],
        mounted,
        keep: Keep::default(),
        read_only: false,
        token_file: None,
        ca_file: None,
        client_cert_file: None,
    })
}

/// Checks that no two mounts have the same path.
///
/// # Errors
///
/// The path that two mounts have.
pub(crate) fn check(local: &[String], remotes: &[Remote]) -> Result<(), String> {
    let mut paths: Vec<&str> = local.iter().map(String::as_str).collect();
    for remote in remotes {
        if paths.contains(&remote.path()) {
            return Err(format!("two mounts have the path {}", remote.path()));
        }
        paths.push(remote.path());
    }
    Ok(())
}
