//! Address of the daemon: the flags and environment variables that name a socket or a URL, with
//! its credentials.

use std::{ffi::OsString, fmt, path::PathBuf};

use anyhow::Context;
use pfs_client::{Endpoint, HttpEndpoint, lookup::Lookup};

use crate::{
    cli::GlobalArgs,
    exit_code::{ExitCode, Failure},
};

/// Environment variables. A flag with the same meaning overrides its variable.
const SOCKET: &str = "PFS_SOCKET";
const URL: &str = "PFS_URL";
const TOKEN: &str = "PFS_TOKEN";
const TOKEN_FILE: &str = "PFS_TOKEN_FILE";
const CA_FILE: &str = "PFS_CA_FILE";
const CLIENT_CERT_FILE: &str = "PFS_CLIENT_CERT_FILE";

/// Address of the daemon: a socket, a URL, or a search of the default sockets.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    /// The path of a Unix socket.
    Socket(PathBuf),
    /// Neither flag nor variable names a daemon: search the default sockets.
    Lookup(Lookup),
    /// A URL, with the environment variables that lead child processes to the same daemon.
    Url { endpoint: HttpEndpoint, variables: Vec<(&'static str, OsString)> },
}

impl Place {
    /// Takes the address from the flags, otherwise from the environment.
    pub(crate) fn from_args(global: &GlobalArgs) -> anyhow::Result<Self> {
        Self::choose(global, variable)
    }

    /// Takes the address from the environment alone: for child processes that were started with
    /// [`variables`](Self::variables).
    pub(crate) fn from_environment() -> anyhow::Result<Self> {
        Self::choose(&GlobalArgs::default(), variable)
    }

    fn choose(
        global: &GlobalArgs,
        variable: impl Fn(&str) -> Option<OsString>,
    ) -> anyhow::Result<Self> {
        let socket = |path: PathBuf| Ok(Self::Socket(path));
        let url = |url: &str| Self::url(url, global, &variable);
        let chosen = match (&global.socket, &global.url) {
            // clap misses this conflict if one flag is before the command's name and the other one
            // after it.
            (Some(_), Some(_)) => return Err(usage("--socket cannot be used with --url")),
            (Some(path), None) => socket(path.clone()),
            (None, Some(text)) => url(text),
            (None, None) => match (variable(SOCKET), variable(URL)) {
                (Some(_), Some(_)) => {
                    let message =
                        "PFS_SOCKET and PFS_URL are both set; unset one, or use --socket or --url";
                    return Err(usage(message));
                }
                (Some(path), None) => socket(PathBuf::from(path)),
                (None, Some(text)) => url(text.to_str().context("PFS_URL is not UTF-8")?),
                (None, None) => Ok(Self::Lookup(Lookup::from_environment())),
            },
        }?;
        if !matches!(chosen, Self::Url { .. }) {
            let flags = [
                ("--token-file", &global.token_file),
                ("--ca-file", &global.ca_file),
                ("--client-cert-file", &global.client_cert_file),
            ];
            if let Some((flag, _)) = flags.into_iter().find(|(_, file)| file.is_some()) {
                return Err(usage(format!("{flag} requires a daemon at a URL; use --url")));
            }
        }
        Ok(chosen)
    }

    fn url(
        url: &str,
        global: &GlobalArgs,
        variable: &impl Fn(&str) -> Option<OsString>,
    ) -> anyhow::Result<Self> {
        let mut endpoint = HttpEndpoint::new(url).map_err(|error| usage(error.to_string()))?;
        let mut variables = vec![(URL, OsString::from(url))];
        if let (None, Some(token)) = (&global.token_file, variable(TOKEN)) {
            if variable(TOKEN_FILE).is_some() {
                return Err(usage(
                    "PFS_TOKEN and PFS_TOKEN_FILE are both set; unset one, or use --token-file",
                ));
            }
            endpoint = endpoint
                .with_token(token.to_str().unwrap_or_default())
                .with_context(|| format!("cannot use the token in {TOKEN}"))?;
            variables.push((TOKEN, token));
        }
        let mut file = |flag: &Option<PathBuf>, name: &'static str| {
            let path = flag.clone().or_else(|| variable(name).map(PathBuf::from))?;
            variables.push((name, path.clone().into()));
            Some(path)
        };
        if let Some(path) = file(&global.token_file, TOKEN_FILE) {
            endpoint = endpoint.with_token_file(path)?;
        }
        if let Some(path) = file(&global.ca_file, CA_FILE) {
            endpoint = endpoint.with_ca_file(path)?;
        }
        if let Some(path) = file(&global.client_cert_file, CLIENT_CERT_FILE) {
            endpoint = endpoint.with_identity_file(path)?;
        }
        Ok(Self::Url { endpoint, variables })
    }

    /// Returns the endpoint to connect to.
    pub(crate) fn endpoint(&self) -> Endpoint {
        match self {
            Self::Socket(path) => Endpoint::Unix(path.clone()),
            Self::Lookup(lookup) => Endpoint::Lookup(lookup.clone()),
            Self::Url { endpoint, .. } => Endpoint::Http(endpoint.clone()),
        }
    }

    /// Returns true if the daemon is on this machine, as far as can be told.
    pub(crate) fn is_local(&self) -> bool {
        match self {
            Self::Socket(_) | Self::Lookup(_) => true,
            Self::Url { endpoint, .. } => endpoint.is_local(),
        }
    }

    /// Environment variables with which a child process finds the same daemon.
    pub(crate) fn variables(&self) -> Vec<(&'static str, OsString)> {
        match self {
            Self::Socket(path) => vec![(SOCKET, path.clone().into())],
            Self::Lookup(_) => Vec::new(),
            Self::Url { variables, .. } => variables.clone(),
        }
    }

    /// All variables that could lead a child process to another daemon.
    pub(crate) const VARIABLES: [&str; 6] =
        [SOCKET, URL, TOKEN, TOKEN_FILE, CA_FILE, CLIENT_CERT_FILE];
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(path) => write!(f, "on {}", path.display()),
            Self::Lookup(lookup) => write!(f, "on {lookup}"),
            Self::Url { endpoint, .. } => write!(f, "at {}", endpoint.url()),
        }
    }
}

/// Reads an environment variable; `None` if it is unset or empty.
fn variable(name: &str) -> Option<OsString> {
    // Not left to clap, which treats an empty variable as set.
    std::env::var_os(name).filter(|value| !value.is_empty())
}

fn usage(message: impl Into<String>) -> anyhow::Error {
    Failure::new(ExitCode::Usage, message).into()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use clap::Parser;

    use super::*;
    use crate::cli::Cli;

    fn place(line: &str, environment: &[(&str, &str)]) -> Result<String, (ExitCode, String)> {
        let words = line.split(' ').filter(|word| !word.is_empty());
        let global = Cli::try_parse_from(["pfs", "ls"].into_iter().chain(words)).unwrap().global;
        let variable = |name: &str| {
            environment
                .iter()
                .find(|(known, _)| *known == name)
                .map(|(_, value)| OsString::from(value))
        };
        match Place::choose(&global, variable) {
            Ok(place) => Ok(place.to_string()),
            Err(error) => Err((ExitCode::from_error(&error), format!("{error:#}"))),
        }
    }

    #[test]
    fn a_flag_overrides_the_environment() {
        let both = [("PFS_SOCKET", "/run/other.sock"), ("PFS_URL", "http://other")];
        assert_eq!(place("--socket /run/pfsd.sock", &both).unwrap(), "on /run/pfsd.sock");
        assert_eq!(place("--url http://here:1", &both).unwrap(), "at http://here:1");
        assert_eq!(place("--url here:1", &both).unwrap(), "at http://here:1");
        assert_eq!(place("", &both[..1]).unwrap(), "on /run/other.sock");
        assert_eq!(place("", &both[1..]).unwrap(), "at http://other:4437");
        assert!(place("", &[]).unwrap().ends_with(" or /run/pfs/pfsd.sock"));
    }

    #[test]
    fn a_socket_and_a_url_together_are_wrong_usage() {
        let (code, message) =
            place("", &[("PFS_SOCKET", "/s"), ("PFS_URL", "http://h")]).unwrap_err();
        assert_eq!(code, ExitCode::Usage);
        assert!(message.contains("both set"), "{message}");
        let global = GlobalArgs {
            socket: Some("/s".into()),
            url: Some("http://h".into()),
            ..GlobalArgs::default()
        };
        assert_eq!(ExitCode::from_error(&Place::from_args(&global).unwrap_err()), ExitCode::Usage);
    }

    #[test]
    fn a_bad_url_and_a_token_without_a_url_are_wrong_usage() {
        for line in [
            "--url ftp://localhost",
            "--url http://",
            "--socket /s --token-file /t",
            "--ca-file /t",
        ] {
            assert_eq!(place(line, &[]).unwrap_err().0, ExitCode::Usage, "{line}");
        }
        // Unlike the flag, the variable may be set together with a socket: it is for all daemons.
        assert_eq!(place("--socket /s", &[("PFS_TOKEN_FILE", "/missing")]).unwrap(), "on /s");
    }

    #[test]
    fn a_file_that_cannot_be_read_is_named() {
        let (code, message) =
            place("--url http://h", &[("PFS_TOKEN_FILE", "/missing/token")]).unwrap_err();
        assert_eq!(code, ExitCode::Failure);
        assert!(message.contains("cannot use the token file /missing/token: "), "{message}");
    }

    #[test]
    fn a_token_is_in_a_variable_or_in_a_file_and_a_flag_overrides_both() {
        let place = |file: Option<PathBuf>, environment: &[(&str, &str)]| {
            let global = GlobalArgs {
                url: Some("http://h".into()),
                token_file: file,
                ..GlobalArgs::default()
            };
            let variable = |name: &str| {
                environment
                    .iter()
                    .find(|(known, _)| *known == name)
                    .map(|(_, value)| OsString::from(value))
            };
            Place::choose(&global, variable).map(|place| place.variables())
        };
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("token");
        fs::write(&file, "secret").unwrap();
        let named = ("PFS_TOKEN_FILE", file.to_str().unwrap());
        let url = ("PFS_URL", "http://h".into());
        assert_eq!(
            place(None, &[("PFS_TOKEN", "word")]).unwrap(),
            [url.clone(), ("PFS_TOKEN", "word".into())]
        );
        assert_eq!(
            place(Some(file.clone()), &[("PFS_TOKEN", "word"), named]).unwrap(),
            [url, ("PFS_TOKEN_FILE", file.clone().into())]
        );
        let both = place(None, &[("PFS_TOKEN", "word"), named]).unwrap_err();
        assert_eq!(ExitCode::from_error(&both), ExitCode::Usage);
        let message = format!("{:#}", place(None, &[("PFS_TOKEN", "two words")]).unwrap_err());
        assert!(message.contains("PFS_TOKEN") && !message.contains("two words"), "{message}");
    }

    #[test]
    fn the_environment_variables_lead_to_the_same_daemon() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("token");
        fs::write(&file, "secret").unwrap();
        let global = GlobalArgs {
            url: Some("http://h".into()),
            token_file: Some(file.clone()),
            ..GlobalArgs::default()
        };
        let variables = Place::choose(&global, |_| None).unwrap().variables();
        assert_eq!(variables, [("PFS_URL", "http://h".into()), ("PFS_TOKEN_FILE", file.into())]);
    }
}
