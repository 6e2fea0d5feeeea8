//! Where the daemon is: which flag or variable says so, and what it takes to be let in there.

use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use pfs_client::{Endpoint, EndpointError, HttpEndpoint};

use crate::cli::GlobalArgs;
use crate::exit_code::{ExitCode, Failure};

/// The variables, each beaten by its flag.
const SOCKET: &str = "PFS_SOCKET";
const URL: &str = "PFS_URL";
const TOKEN_FILE: &str = "PFS_TOKEN_FILE";
const CA_FILE: &str = "PFS_CA_FILE";
const CLIENT_CERT_FILE: &str = "PFS_CLIENT_CERT_FILE";

/// A socket or a URL.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    /// A socket; the default one unless it was asked for.
    Socket { path: PathBuf, default: bool },
    /// A URL, with the variables that lead other processes there.
    Url { endpoint: HttpEndpoint, variables: Vec<(&'static str, OsString)> },
}

impl Place {
    /// As the flags want it, else as the environment does.
    pub(crate) fn of(global: &GlobalArgs) -> anyhow::Result<Self> {
        Self::choose(global, variable)
    }

    /// As the environment wants it: for processes that were started with [`variables`](Self::variables).
    pub(crate) fn of_environment() -> anyhow::Result<Self> {
        Self::choose(&GlobalArgs::default(), variable)
    }

    fn choose(global: &GlobalArgs, variable: impl Fn(&str) -> Option<OsString>) -> anyhow::Result<Self> {
        let socket = |path: PathBuf| Ok(Self::Socket { path, default: false });
        let url = |url: &str| Self::url(url, global, &variable);
        let chosen = match (&global.socket, &global.url) {
            // On both sides of a command's name, where clap does not see them together.
            (Some(_), Some(_)) => return Err(usage("--socket and --url exclude each other")),
            (Some(path), None) => socket(path.clone()),
            (None, Some(text)) => url(text),
            (None, None) => match (variable(SOCKET), variable(URL)) {
                (Some(_), Some(_)) => {
                    let message = "PFS_SOCKET and PFS_URL are both set; unset one, or say --socket or --url";
                    return Err(usage(message));
                }
                (Some(path), None) => socket(PathBuf::from(path)),
                (None, Some(text)) => url(text.to_str().context("PFS_URL is not UTF-8")?),
                (None, None) => Ok(Self::Socket { path: pfs_client::default_socket_path(), default: true }),
            },
        }?;
        if let Self::Socket { .. } = chosen {
            let flags = [
                ("--token-file", &global.token_file),
                ("--ca-file", &global.ca_file),
                ("--client-cert-file", &global.client_cert_file),
            ];
            if let Some((flag, _)) = flags.into_iter().find(|(_, file)| file.is_some()) {
                return Err(usage(format!("{flag} is for a daemon at a URL: say --url, too")));
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
        let mut file = |flag: &Option<PathBuf>, name: &'static str| {
            let path = flag.clone().or_else(|| variable(name).map(PathBuf::from))?;
            variables.push((name, path.clone().into()));
            Some(path)
        };
        let files = [
            (file(&global.token_file, TOKEN_FILE), Content::Token),
            (file(&global.ca_file, CA_FILE), Content::Ca),
            (file(&global.client_cert_file, CLIENT_CERT_FILE), Content::Identity),
        ];
        for (path, content) in files {
            if let Some(path) = path {
                endpoint = content
                    .read(endpoint, &path)
                    .with_context(|| format!("cannot use {} {}", content.name(), path.display()))?;
            }
        }
        Ok(Self::Url { endpoint, variables })
    }

    /// What connects to it.
    pub(crate) fn endpoint(&self) -> Endpoint {
        match self {
            Self::Socket { path, .. } => Endpoint::Unix(path.clone()),
            Self::Url { endpoint, .. } => Endpoint::Http(endpoint.clone()),
        }
    }

    /// Whether the daemon is on this machine, as far as can be told.
    pub(crate) fn is_local(&self) -> bool {
        match self {
            Self::Socket { .. } => true,
            Self::Url { endpoint, .. } => endpoint.is_local(),
        }
    }

    /// What a process's environment needs that is to find the same daemon.
    pub(crate) fn variables(&self) -> Vec<(&'static str, OsString)> {
        match self {
            Self::Socket { path, .. } => vec![(SOCKET, path.clone().into())],
            Self::Url { variables, .. } => variables.clone(),
        }
    }

    /// All variables that could lead it elsewhere.
    pub(crate) const VARIABLES: [&str; 5] = [SOCKET, URL, TOKEN_FILE, CA_FILE, CLIENT_CERT_FILE];
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket { path, .. } => write!(f, "on {}", path.display()),
            Self::Url { endpoint, .. } => write!(f, "at {}", endpoint.url()),
        }
    }
}

/// What a file is for.
#[derive(Clone, Copy)]
enum Content {
    Token,
    Ca,
    Identity,
}

impl Content {
    fn name(self) -> &'static str {
        match self {
            Self::Token => "the token file",
            Self::Ca => "the file of trusted certificates",
            Self::Identity => "the file of the client's certificate",
        }
    }

    fn read(self, endpoint: HttpEndpoint, path: &Path) -> anyhow::Result<HttpEndpoint> {
        let bytes = fs::read(path)?;
        Ok(match self {
            Self::Token => endpoint.with_token(token(&bytes)?)?,
            Self::Ca => endpoint.with_ca(&bytes)?,
            Self::Identity => endpoint.with_identity(&bytes)?,
        })
    }
}

/// The token in a file. What the daemon's own file has behind a token may be there, too, and comments.
fn token(bytes: &[u8]) -> anyhow::Result<&str> {
    let text = std::str::from_utf8(bytes).map_err(|_| EndpointError::Token)?;
    let lines = text.lines().map(|line| line.split_once('#').map_or(line, |(line, _)| line));
    let mut tokens = lines.filter_map(|line| line.split_whitespace().next());
    let token = tokens.next().context("there is no token in it")?;
    if tokens.any(|other| other != token) {
        anyhow::bail!("there are several tokens in it, and it should hold one");
    }
    Ok(token)
}

/// A variable that is set to something.
fn variable(name: &str) -> Option<OsString> {
    // Not clap's affair, which takes a variable that is empty for one that is set.
    std::env::var_os(name).filter(|value| !value.is_empty())
}

fn usage(message: impl Into<String>) -> anyhow::Error {
    Failure::new(ExitCode::Usage, message).into()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::Cli;

    fn place(line: &str, environment: &[(&str, &str)]) -> Result<String, (ExitCode, String)> {
        let words = line.split(' ').filter(|word| !word.is_empty());
        let global = Cli::try_parse_from(["pfs", "ls"].into_iter().chain(words)).unwrap().global;
        let variable = |name: &str| {
            environment.iter().find(|(known, _)| *known == name).map(|(_, value)| OsString::from(value))
        };
        match Place::choose(&global, variable) {
            Ok(place) => Ok(place.to_string()),
            Err(error) => Err((ExitCode::of(&error), format!("{error:#}"))),
        }
    }

    #[test]
    fn a_flag_beats_the_environment() {
        let both = [("PFS_SOCKET", "/run/other.sock"), ("PFS_URL", "http://other")];
        assert_eq!(place("--socket /run/pfsd.sock", &both).unwrap(), "on /run/pfsd.sock");
        assert_eq!(place("--url http://here:1", &both).unwrap(), "at http://here:1");
        assert_eq!(place("", &both[..1]).unwrap(), "on /run/other.sock");
        assert_eq!(place("", &both[1..]).unwrap(), "at http://other:4437");
        assert!(place("", &[]).unwrap().ends_with("/pfsd.sock"));
    }

    #[test]
    fn two_places_at_once_are_wrong_usage() {
        let (code, message) = place("", &[("PFS_SOCKET", "/s"), ("PFS_URL", "http://h")]).unwrap_err();
        assert_eq!(code, ExitCode::Usage);
        assert!(message.contains("both set"), "{message}");
        let global =
            GlobalArgs { socket: Some("/s".into()), url: Some("http://h".into()), ..GlobalArgs::default() };
        assert_eq!(ExitCode::of(&Place::of(&global).unwrap_err()), ExitCode::Usage);
    }

    #[test]
    fn a_bad_url_and_a_token_without_a_url_are_wrong_usage() {
        for line in ["--url localhost:4437", "--url http://", "--socket /s --token-file /t", "--ca-file /t"] {
            assert_eq!(place(line, &[]).unwrap_err().0, ExitCode::Usage, "{line}");
        }
        // A variable is for all daemons.
        assert_eq!(place("--socket /s", &[("PFS_TOKEN_FILE", "/missing")]).unwrap(), "on /s");
    }

    #[test]
    fn a_file_that_cannot_be_read_is_named() {
        let (code, message) = place("--url http://h", &[("PFS_TOKEN_FILE", "/missing/token")]).unwrap_err();
        assert_eq!(code, ExitCode::Failure);
        assert!(message.contains("cannot use the token file /missing/token: "), "{message}");
    }

    #[test]
    fn a_token_file_holds_one_token() {
        assert_eq!(token(b"secret\n").unwrap(), "secret");
        assert_eq!(token(b"# for cameras\n\n secret read,write / # all\nsecret read").unwrap(), "secret");
        for bytes in [&b""[..], b"# none\n", b"one\ntwo\n", b"\xff"] {
            assert!(token(bytes).is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn the_variables_lead_to_the_same_place() {
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
