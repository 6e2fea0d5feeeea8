//! Getting to the daemon: whether to start one, and what to say when there is none.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::{Context, bail};
use pfs_client::{Client, ConnectError};

use crate::autostart;
use crate::cli::GlobalArgs;
use crate::exit_code::{ExitCode, Failure};
use crate::place::Place;
use crate::printer::Printer;

/// The daemon that this run talks to.
#[derive(Clone, Debug)]
pub(crate) struct Daemon {
    place: Place,
    /// Whether a daemon is started when none answers.
    autostart: bool,
    /// Whether memory is shared with it where that is possible.
    mapping: bool,
    printer: Printer,
}

impl Daemon {
    /// The one that the flags and the environment name.
    pub(crate) fn new(global: &GlobalArgs, printer: &Printer) -> anyhow::Result<Self> {
        let place = Place::of(global)?;
        let default = matches!(place, Place::Socket { default: true, .. });
        Ok(Self {
            place,
            autostart: default && std::env::var_os("PFS_AUTOSTART").is_none_or(|value| value != "0"),
            mapping: !global.no_map,
            printer: printer.clone(),
        })
    }

    /// Connects, and starts a daemon if none answers and this run may.
    pub(crate) async fn connect(&self) -> anyhow::Result<Client> {
        if let Place::Socket { path, default: true } = &self.place {
            check_owner(path.parent().unwrap_or(Path::new("/")))?;
        }
        let error = match (self.try_connect().await, &self.place) {
            (Ok(client), _) => return Ok(client),
            (Err(ConnectError::NoDaemon { .. }), Place::Socket { path, .. }) if self.autostart => {
                autostart::start(path, &self.printer).await?;
                return self.try_connect().await.context("the daemon was started and is gone again");
            }
            (Err(error), _) => error,
        };
        Err(match error {
            ConnectError::NoDaemon { source, .. } | ConnectError::Unreachable { source, .. } => {
                self.no_daemon(&source).into()
            }
            ConnectError::Io { path, source } if source.kind() == io::ErrorKind::InvalidInput => {
                let message = "the path of a socket cannot be as long as this one";
                let message = format!("{message}, {} bytes: {}", path.as_os_str().len(), path.display());
                Failure::new(ExitCode::Usage, message).into()
            }
            ConnectError::Rejected { status: 401, .. } => {
                anyhow::anyhow!("{error}; name a file that holds a token with --token-file or PFS_TOKEN_FILE")
            }
            ConnectError::Untrusted { .. } => {
                anyhow::anyhow!(
                    "{error}; a certificate of your own is trusted with --ca-file or PFS_CA_FILE, and one is shown to the \
                     daemon with --client-cert-file or PFS_CLIENT_CERT_FILE"
                )
            }
            // They name the place themselves.
            ConnectError::Io { .. } | ConnectError::Rejected { .. } => error.into(),
            error => anyhow::Error::new(error).context(format!("cannot talk to the daemon {}", self.place)),
        })
    }

    /// Whether memory is shared with it where that is possible.
    pub(crate) fn mapping(&self) -> bool {
        self.mapping
    }

    /// Where it is.
    pub(crate) fn place(&self) -> &Place {
        &self.place
    }

    /// Connects to a daemon that runs already.
    pub(crate) async fn try_connect(&self) -> Result<Client, ConnectError> {
        let client = Client::connect(self.place.endpoint()).await?;
        Ok(if self.mapping { client } else { client.with_mapping(false) })
    }

    fn no_daemon(&self, why: &io::Error) -> Failure {
        let place = &self.place;
        let how = match place {
            Place::Socket { default: true, .. } => {
                "; start one with pfsd, or unset PFS_AUTOSTART and let pfs do it".to_owned()
            }
            Place::Socket { path, .. } => format!("; start one with: pfsd --socket {}", path.display()),
            Place::Url { endpoint, .. } if endpoint.is_local() => {
                "; start one with: pfsd --http ADDRESS".to_owned()
            }
            Place::Url { .. } => String::new(),
        };
        Failure::new(ExitCode::NoDaemon, format!("no daemon answers {place} ({why}){how}"))
    }
}

/// Refuses a directory in which somebody else could have put a socket of theirs: the default one is in
/// `/tmp` where there is no runtime directory.
pub(crate) fn check_owner(directory: &Path) -> anyhow::Result<()> {
    let uid = rustix::process::geteuid().as_raw();
    let shown = directory.display();
    let metadata = match fs::symlink_metadata(directory) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).with_context(|| format!("cannot look at {shown}")),
    };
    const TO_DO: &str = "remove it, or name a socket with --socket";
    if !metadata.is_dir() {
        bail!("{shown} is not a directory, and the daemon's socket belongs into it; {TO_DO}");
    }
    if metadata.uid() != uid && metadata.uid() != 0 {
        bail!("{shown} belongs to user {}, so a daemon in it is not to be trusted; {TO_DO}", metadata.uid());
    }
    if metadata.mode() & 0o022 != 0 {
        bail!("{shown} can be written to by others, so a daemon in it is not to be trusted; {TO_DO}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn set_mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_directory_of_our_own_or_none_at_all_is_fine() {
        let temporary = tempfile::tempdir().unwrap();
        set_mode(temporary.path(), 0o700);
        check_owner(temporary.path()).unwrap();
        check_owner(&temporary.path().join("missing")).unwrap();
    }

    #[test]
    fn a_directory_that_others_could_have_put_a_socket_into_is_refused() {
        let temporary = tempfile::tempdir().unwrap();
        for mode in [0o720, 0o702] {
            set_mode(temporary.path(), mode);
            let error = check_owner(temporary.path()).unwrap_err();
            assert!(error.to_string().contains("written to by others"), "{error}");
        }

        let link = temporary.path().join("link");
        symlink("/", &link).unwrap();
        let error = check_owner(&link).unwrap_err();
        assert!(error.to_string().contains("not a directory"), "{error}");
    }

    #[test]
    fn a_directory_of_somebody_else_is_refused() {
        if !rustix::process::geteuid().is_root() {
            // Only root can have a directory of another user's.
            return;
        }
        let temporary = tempfile::tempdir().unwrap();
        std::os::unix::fs::chown(temporary.path(), Some(12_345), None).unwrap();
        let error = check_owner(temporary.path()).unwrap_err();
        assert!(error.to_string().contains("belongs to user 12345"), "{error}");
    }
}
