//! Configuration reload of tokens, certificates and limits while the daemon serves: on SIGHUP, and
//! on request of `pfsd --reload`.

use std::{convert::Infallible, fmt::Write as _, future::pending, sync::Arc};

use anyhow::{Context, Result};
use pfs_host::{Daemon, Failure, ReloadRequest};
use pfs_http::{Server, Setup, TokenChanges};
use pfs_proto::ErrorCode;
use tokio::{signal::unix::Signal, sync::mpsc, task::spawn_blocking};

use crate::{
    args::Args,
    config::{Config, Reload},
    descriptors,
    start::{self, configuration},
    systemd,
};

/// Reloads the configuration of the running daemon.
pub(crate) struct Reloader {
    pub(crate) args: Args,
    /// The configuration in force.
    pub(crate) running: Config,
    pub(crate) daemon: Arc<Daemon>,
    pub(crate) http: Option<Arc<Server>>,
}

/// A new configuration that is valid and not yet applied.
struct Prepared {
    reload: Reload,
    http: Option<Setup>,
}

/// The changes made by a reload, and warnings for the operator.
#[derive(Debug, Default, PartialEq, Eq)]
struct Outcome {
    changes: Vec<String>,
    warnings: Vec<String>,
}

impl Reloader {
    /// Serves reload requests one after the other.
    pub(crate) async fn run(
        mut self,
        mut hangups: Signal,
        mut requests: mpsc::Receiver<ReloadRequest>,
    ) -> Infallible {
        loop {
            let request = tokio::select! {
                Some(()) = hangups.recv() => None,
                Some(request) = requests.recv() => Some(request),
                else => pending().await,
            };
            systemd::reloading();
            let answer = self.reload().await;
            systemd::ready();
            if let Some(request) = request {
                request.answer(answer);
            }
        }
    }

    /// Reloads once, and logs the outcome.
    async fn reload(&mut self) -> Result<String, Failure> {
        let Some(file) = self.args.config.clone() else {
            let message = "the daemon was started without a configuration file (--config); there is nothing to reload";
            tracing::info!("{message}");
            return Ok(format!("{message}\n"));
        };
        let (args, running) = (self.args.clone(), self.running.clone());
        let prepared = spawn_blocking(move || prepare(&args, &running))
            .await
            .context("the reload task failed");
        match prepared.and_then(|prepared| prepared) {
            Ok(prepared) => {
                let outcome = self.apply(prepared);
                tracing::info!("reloaded {}: {}", file.display(), outcome.changes.join("; "));
                for warning in &outcome.warnings {
                    tracing::warn!("{warning}");
                }
                Ok(outcome.text(&format!("reloaded {}", file.display())))
            }
            Err(error) => {
                let message = format!(
                    "cannot reload the configuration, so the old configuration stays in force: {error:#}"
                );
                tracing::error!("{}", in_one_line(&message));
                Err(Failure::new(ErrorCode::BadOption, message))
            }
        }
    }

    /// Applies the new settings.
    fn apply(&mut self, prepared: Prepared) -> Outcome {
        let Prepared { reload: Reload { config, changes, waiting }, http } = prepared;
        let mut outcome = Outcome::default();
        let mut host = config.host.clone();
        let shortage = descriptors::provide(&mut host);
        self.daemon.set_limits(&host);
        let notes = config.notes.iter().chain(http.iter().flat_map(|setup| &setup.notes)).cloned();
        outcome.warnings.extend(notes.chain(shortage));
        if let (Some(server), Some(setup)) = (&self.http, http) {
            let (tokens, tls) = (setup.tokens(), &config.http.tls);
            outcome.changes.extend(token_changes(tokens, server.reload(setup)));
            outcome.changes.extend(tls.iter().map(|files| {
                let client_ca = if files.client_ca.is_some() { " and http.client_ca" } else { "" };
                format!("http.certificate{client_ca} reloaded for new connections")
            }));
        }
        if changes.is_empty() {
            outcome.changes.push("limits unchanged".to_owned());
        }
        outcome.changes.extend(changes);
        outcome.warnings.extend(waiting.iter().map(|key| {
            format!(
                "{key} differs from the running value; the new value takes effect at the next start"
            )
        }));
        self.running = config;
        outcome
    }
}

/// Reads and validates all files, and changes nothing.
fn prepare(args: &Args, running: &Config) -> Result<Prepared> {
    let new = configuration(args)?;
    // Settings that wait for the next start must be valid too.
    start::http(&new)?;
    let reload = running.reload(new);
    let http = start::http(&reload.config)?;
    Ok(Prepared { reload, http })
}

fn token_changes(count: Option<usize>, changes: TokenChanges) -> Option<String> {
    let TokenChanges { added, changed, removed } = changes;
    let Some(count) = count else {
        return (removed > 0)
            .then(|| "auth.token_file is unset: HTTP no longer needs a token".to_owned());
    };
    let parts = [(added, "added"), (changed, "changed"), (removed, "removed")];
    let parts: Vec<String> = parts
        .iter()
        .filter(|(number, _)| *number > 0)
        .map(|(number, what)| format!("{number} {what}"))
        .collect();
    let parts = if parts.is_empty() { "unchanged".to_owned() } else { parts.join(", ") };
    Some(format!(
        "auth.token_file has {count} token{} ({parts})",
        if count == 1 { "" } else { "s" }
    ))
}

impl Outcome {
    /// Formats the outcome for the client that asked, one line per item.
    fn text(&self, title: &str) -> String {
        let mut text = format!("{title}\n");
        for change in &self.changes {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "  {change}");
        }
        for warning in &self.warnings {
            let _ = writeln!(text, "warning: {warning}");
        }
        text
    }
}

fn in_one_line(message: &str) -> String {
    let lines: Vec<&str> = message.lines().map(str::trim).collect();
    lines.join(" ")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use clap::Parser as _;

    use super::*;

    /// A directory for a configuration and the files that it names.
    struct Files(tempfile::TempDir);

    impl Files {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        fn write(&self, name: &str, text: &str) -> String {
            let path = self.0.path().join(name);
            std::fs::write(&path, text).unwrap();
            format!("{:?}", path.display().to_string())
        }

        /// Prepares a reload of `after` for a daemon that runs with `before`.
        fn prepare(&self, flags: &[&str], before: &str, after: &str) -> Result<Prepared> {
            let config = self.0.path().join("pfsd.toml");
            let arguments = ["pfsd", "--config"].iter().map(Path::new).chain([config.as_path()]);
            let arguments = arguments
                .chain(flags.iter().map(Path::new))
                .map(|word| word.as_os_str().to_owned());
            let args = Args::try_parse_from(arguments).unwrap();
            std::fs::write(&config, before).unwrap();
            let running = configuration(&args).unwrap();
            std::fs::write(&config, after).unwrap();
            prepare(&args, &running)
        }

        fn refused(&self, flags: &[&str], before: &str, after: &str) -> String {
            let refused = self.prepare(flags, before, after).err();
            format!("{:#}", refused.expect("the reload is refused"))
        }
    }

    #[test]
    fn a_reload_that_opens_http_to_everybody_now_or_at_the_next_start_is_refused() {
        let files = Files::new();
        let token = files.write("token", "0123456789abcdef0123\n");
        let guarded = format!("[auth]\ntoken_file = {token}\n");
        let beyond = ["--http", "0.0.0.0:0"];
        assert!(files.prepare(&beyond, &guarded, &guarded).is_ok());
        assert!(
            files.refused(&beyond, &guarded, "").contains("refusing to serve HTTP on 0.0.0.0:0")
        );
        // Both on the current address and on the address of the next start.
        let both = |http: &str, more: &str| format!("[listen]\nhttp = \"{http}\"\n{more}");
        let (near, far) = ("127.0.0.1:0", "0.0.0.0:0");
        assert!(files.refused(&[], &both(far, &guarded), &both(near, "")).contains("on 0.0.0.0:0"));
        assert!(files.refused(&[], &both(near, ""), &both(far, "")).contains("on 0.0.0.0:0"));
        assert!(files.refused(&[], &both(far, &guarded), "").contains("on 0.0.0.0:0"));
        let waits = files.prepare(&[], &both(near, ""), &both(far, &guarded)).unwrap();
        assert_eq!(waits.reload.waiting, ["listen.http"]);
        assert_eq!(
            waits.http.map(|setup| (setup.address().to_string(), setup.tokens())),
            Some((near.into(), Some(1)))
        );
        // Client certificates do not protect a server without TLS.
        let tls = |more: &str| format!("[http]\ncertificate = \"/c\"\nkey = \"/k\"\n{more}");
        let running = configuration_of(&guarded, far);
        let new = configuration_of(&tls("client_ca = \"/a\"\n"), far);
        let Reload { config, waiting, .. } = running.reload(new);
        assert_eq!((waiting, &config.http.tls), (vec!["http.certificate"], &None));
        assert!(Setup::prepare(&[], &config.http).err().unwrap().to_string().contains("refusing"));
    }

    fn configuration_of(toml: &str, http: &str) -> Config {
        let mut config = Config::from_toml(toml, "pfsd.toml", None).unwrap();
        config.http.address = Some(http.parse().unwrap());
        config
    }

    #[test]
    fn files_named_by_the_configuration_must_be_valid_too() {
        let files = Files::new();
        let (empty, broken) =
            (files.write("empty", "# none\n"), files.write("broken", "\nshort\n"));
        let http = ["--http", "127.0.0.1:0"];
        for (key, file, words) in [
            ("[auth]\ntoken_file", &*empty, "has no token in it"),
            ("[auth]\ntoken_file", &broken, "broken:2: a token must have at least 16 characters"),
            ("[auth]\ntoken_file", "\"/nonexistent\"", "cannot read the token file /nonexistent"),
            ("[http]\nkey = \"/k\"\ncertificate", &empty, "http.certificate"),
        ] {
            let said = files.refused(&http, "", &format!("{key} = {file}\n"));
            assert!(said.contains(words), "{said}");
        }
    }

    #[test]
    fn the_outcome_lists_changes_in_lines_and_a_log_message_is_one_line() {
        let changes = |added, changed, removed| TokenChanges { added, changed, removed };
        for (count, changes, expected) in [
            (Some(2), changes(0, 0, 0), Some("auth.token_file has 2 tokens (unchanged)")),
            (Some(1), changes(1, 0, 2), Some("auth.token_file has 1 token (1 added, 2 removed)")),
            (Some(3), changes(0, 3, 0), Some("auth.token_file has 3 tokens (3 changed)")),
            (
                None,
                changes(0, 0, 1),
                Some("auth.token_file is unset: HTTP no longer needs a token"),
            ),
            (None, changes(0, 0, 0), None),
        ] {
            assert_eq!(token_changes(count, changes).as_deref(), expected);
        }
        let outcome = Outcome { changes: vec!["a".into(), "b".into()], warnings: vec!["c".into()] };
        assert_eq!(outcome.text("reloaded"), "reloaded\n  a\n  b\nwarning: c\n");
        assert_eq!(in_one_line("f:2: wrong\n  2 | text"), "f:2: wrong 2 | text");
    }
}
