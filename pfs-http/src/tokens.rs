//! Token file: the tokens of clients and their permissions.
//!
//! A line is `TOKEN [SCOPES [PREFIX…]]`. Scopes are `read`, `write` and `block`, separated by
//! commas (default: all three). Prefixes are paths (default: `/`). The grants of several lines with
//! the same token add up. `#` begins a comment. The file is read at the start and at each reload.

use std::{collections::HashMap, os::unix::fs::PermissionsExt, path::Path};

use anyhow::{Context, Result, bail};
use pfs_host::{Grant, Grants, Permissions, TokenId};
use pfs_proto::PathPrefix;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// Minimum length of a token, in characters. A shorter token could be guessed.
const MIN_TOKEN: usize = 16;

/// Permission bits that cause a warning: others may read or write the file, or the group may write
/// it. A group that may read the file is the operator's decision.
const TOO_OPEN: u32 = 0o026;

/// Tokens that the daemon knows. Only digests are kept in memory, so that no token can leak from
/// the daemon.
pub(crate) struct Tokens {
    known: Vec<(TokenDigest, Grants)>,
}

type TokenDigest = [u8; 32];

/// Number of tokens that a reload added, changed and removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TokenChanges {
    /// Tokens that are new.
    pub added: usize,
    /// Tokens whose grants differ from before.
    pub changed: usize,
    /// Tokens that are gone.
    pub removed: usize,
}

impl Tokens {
    /// Reads the token file, and adds warnings about it to `notes`.
    pub(crate) fn read(path: &Path, notes: &mut Vec<String>) -> Result<Self> {
        let shown = path.display();
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read the token file {shown}"))?;
        let tokens = Self::parse(&text)
            .map_err(|(line, problem)| anyhow::anyhow!("{shown}:{line}: {problem}"))?;
        if tokens.known.is_empty() {
            bail!("the token file {shown} has no token in it; make one with: openssl rand -hex 32");
        }
        let mode =
            std::fs::metadata(path).map_or(0, |metadata| metadata.permissions().mode() & 0o777);
        if mode & TOO_OPEN != 0 {
            let note = format!(
                "other users can read or change the token file {shown} (mode {mode:04o}); run: chmod 600 {shown}"
            );
            notes.push(note);
        }
        Ok(tokens)
    }

    /// Parses a token file. An error has the line number and the problem, and never repeats
    /// a token.
    fn parse(text: &str) -> Result<Self, (usize, String)> {
        let mut order = Vec::new();
        let mut granted: HashMap<TokenDigest, Vec<Grant>> = HashMap::new();
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.split_once('#').map_or(line, |(line, _)| line);
            let mut words = line.split_whitespace();
            let Some(token) = words.next() else { continue };
            let digest = digest(checked(token).map_err(|problem| (number, problem))?);
            let grants = grants(words).map_err(|problem| (number, problem))?;
            granted.entry(digest).or_insert_with(|| {
                order.push(digest);
                Vec::new()
            });
            granted.entry(digest).or_default().extend(grants);
        }
        let known = order
            .into_iter()
            .filter_map(|digest| Some((digest, Grants::new(granted.remove(&digest)?))));
        Ok(Self { known: known.collect() })
    }

    /// Looks up a token. Returns its id and permissions, or `None` if it is unknown. Takes the same
    /// time for every token.
    pub(crate) fn find(&self, token: &[u8]) -> Option<(TokenId, Permissions)> {
        let asked = digest(token);
        let mut found = None;
        for (known, grants) in &self.known {
            if bool::from(known.ct_eq(&asked)) {
                found = Some((TokenId::new(*known), grants));
            }
        }
        found.map(|(id, grants)| (id, grants.permissions()))
    }

    /// Number of tokens.
    pub(crate) fn len(&self) -> usize {
        self.known.len()
    }

    /// Takes the place of the earlier tokens `before`. From now on, requests with a token of
    /// `before` have the permissions that the token has in `self`.
    pub(crate) fn succeed(mut self, before: &Self) -> (Self, TokenChanges) {
        let mut changes = TokenChanges { added: self.len(), ..TokenChanges::default() };
        for (digest, grants) in &before.known {
            match self.known.iter_mut().find(|(known, _)| known == digest) {
                Some((_, new)) => {
                    changes.added = changes.added.saturating_sub(1);
                    changes.changed += usize::from(grants.replace(new));
                    *new = grants.clone();
                }
                None => {
                    changes.removed += 1;
                    grants.revoke();
                }
            }
        }
        (self, changes)
    }
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} tokens", self.known.len())
    }
}

fn digest(token: &[u8]) -> TokenDigest {
    Sha256::digest(token).into()
}

/// Validates a token: its characters (RFC 6750) and its minimum length.
fn checked(token: &str) -> Result<&[u8], String> {
    if token.len() < MIN_TOKEN {
        return Err(format!(
            "a token must have at least {MIN_TOKEN} characters; make one with: openssl rand -hex 32"
        ));
    }
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte);
    if !token.bytes().all(allowed) {
        return Err("a token may contain only letters, digits and - . _ ~ + / =".to_owned());
    }
    Ok(token.as_bytes())
}

fn grants<'a>(mut words: impl Iterator<Item = &'a str>) -> Result<Vec<Grant>, String> {
    let (mut read, mut write, mut block) = (false, false, false);
    for scope in words.next().unwrap_or("read,write,block").split(',') {
        match scope {
            "read" => read = true,
            "write" => write = true,
            "block" => block = true,
            _ => {
                let problem = "the scopes after the token must be read, write or block, separated by commas, such as read,write";
                return Err(problem.to_owned());
            }
        }
    }
    let mut grants = Vec::new();
    let mut words = words.peekable();
    let everywhere = words.peek().is_none().then_some("/");
    for (number, word) in (1..).zip(words.chain(everywhere)) {
        // The word is not repeated in the message: it may be the token of the next line, if a line
        // end is missing.
        let prefix: PathPrefix = word.parse().map_err(|error| {
            format!("word {number} after the scopes is not a path: {error}; write one such as /streamfs/cam")
        })?;
        grants.push(Grant { read, write, block, prefix });
    }
    Ok(grants)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: &str = "0123456789abcdef";
    const READER: &str = "reader-reader-reader";
    const CAMERA: &str = "camera.camera.camera==";

    #[test]
    fn every_form_of_a_line_grants_what_it_says() {
        let text = format!(
            "# who may do what\n\n{ALL}\n{READER} read # anything\n\t{CAMERA}  write  /streamfs/a /streamfs/b/\n\
             {CAMERA} read,block /streamfs/a\n"
        );
        let tokens = Tokens::parse(&text).unwrap();
        assert_eq!(format!("{tokens:?}"), "3 tokens");
        let allowed = |token: &'static str| tokens.find(token.as_bytes()).unwrap().1;
        let all = allowed(ALL);
        assert!(
            all.may_read("/").is_ok() && all.may_write("/x").is_ok() && all.may_block("/x").is_ok()
        );
        let reader = allowed(READER);
        assert!(reader.may_read("/streamfs/x").is_ok() && reader.may_write("/streamfs/x").is_err());
        assert!(reader.may_block("/streamfs/x").is_err(), "a line with scopes grants these alone");
        let camera = allowed(CAMERA);
        assert!(
            camera.may_write("/streamfs/a").is_ok() && camera.may_write("/streamfs/b/c").is_ok()
        );
        assert!(camera.may_read("/streamfs/a").is_ok() && camera.may_read("/streamfs/b").is_err());
        assert!(
            camera.may_block("/streamfs/a").is_ok() && camera.may_block("/streamfs/b").is_err()
        );
    }

    #[test]
    fn only_an_exact_token_is_found() {
        let tokens = Tokens::parse(&format!("{ALL}\n")).unwrap();
        for other in ["", "0123456789abcde", "0123456789abcdefg", "0123456789ABCDEF", "# "] {
            assert!(tokens.find(other.as_bytes()).is_none(), "{other:?}");
        }
    }

    #[test]
    fn a_mistake_is_named_with_its_line_and_without_the_token() {
        for (text, line, words) in [
            ("short", 1, "at least 16"),
            ("# fine\nsecret-secret-sécret", 2, "letters, digits"),
            ("secret-secret-secret reads", 1, "read, write or block"),
            ("secret-secret-secret read,", 1, "read, write or block"),
            ("secret-secret-secret read streamfs", 1, "/streamfs/cam"),
            ("secret-secret-secret read /a /a/../b", 1, "word 2 after the scopes is not a path"),
            (
                "0123456789abcdef read secret-secret-secret write",
                1,
                "word 1 after the scopes is not a path",
            ),
            (
                "0123456789abcdef read //secret-secret-secret",
                1,
                "word 1 after the scopes is not a path",
            ),
        ] {
            let (at, problem) = Tokens::parse(text).unwrap_err();
            assert_eq!(at, line, "{text}");
            assert!(problem.contains(words) && !problem.contains("secret"), "{text}: {problem}");
        }
    }

    #[test]
    fn a_token_file_without_tokens_is_refused_and_one_that_others_can_read_is_noted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let mut notes = Vec::new();
        let missing = format!("{:#}", Tokens::read(&path, &mut notes).unwrap_err());
        assert!(missing.contains("cannot read the token file"), "{missing}");
        std::fs::write(&path, "# none\n").unwrap();
        assert!(Tokens::read(&path, &mut notes).unwrap_err().to_string().contains("openssl rand"));
        std::fs::write(&path, ALL).unwrap();
        for (mode, noted) in
            [(0o600, false), (0o640, false), (0o644, true), (0o660, true), (0o602, true)]
        {
            std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
            notes.clear();
            Tokens::read(&path, &mut notes).unwrap();
            assert_eq!(!notes.is_empty(), noted, "{mode:o}: {notes:?}");
        }
    }
}
