//! Checks a token file: it is refused with its line, and no message repeats a token.

use std::{path::Path, sync::LazyLock};

use libfuzzer_sys::arbitrary::{Result, Unstructured};
use pfs_http::{Setup, settings::Settings};
use pfs_proto::PathPrefix;

use crate::nameless::Nameless;

/// The token file of a daemon that requires tokens.
pub fn valid() -> &'static Path {
    static FILE: LazyLock<Nameless> = LazyLock::new(|| {
        let file = Nameless::new();
        file.write(b"0123456789abcdef\n");
        file
    });
    FILE.path()
}

pub fn check(text: &str) {
    static FILE: LazyLock<Nameless> = LazyLock::new(Nameless::new);
    FILE.write(text.as_bytes());
    let address = Some(([127, 0, 0, 1], 0).into());
    let http =
        Settings { address, token_file: Some(FILE.path().to_owned()), ..Settings::default() };
    let read = Setup::prepare(&[], &http).map(|_| ()).map_err(|error| format!("{error:#}"));
    match (read, expected(text)) {
        (Ok(()), Expected::Tokens) => {}
        (Err(message), Expected::Nothing) => {
            assert!(message.contains("has no token in it"), "{message}")
        }
        (Err(message), Expected::Mistake { line }) => {
            let place = format!("{}:{line}: ", FILE.path().display());
            let reason =
                message.strip_prefix(&place).unwrap_or_else(|| panic!("not {place}: {message}"));
            check_secrecy(text, reason);
        }
        (read, expected) => panic!("expected {expected:?}, got {read:?}"),
    }
}

/// Any word that could be a token stays out of the message, wherever it is in the file: a line end
/// may have been forgotten.
fn check_secrecy(text: &str, reason: &str) {
    let is_long = |word: &&str| word.len() >= 16 && !word.starts_with('/');
    for word in text.split_whitespace().filter(is_long) {
        assert!(!reason.contains(word), "{reason} reveals {word}");
    }
}

#[derive(Debug)]
enum Expected {
    Tokens,
    Nothing,
    Mistake { line: usize },
}

/// Model of the token file format, written as plainly as its documentation.
fn expected(text: &str) -> Expected {
    let mut found = Expected::Nothing;
    for (at, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default();
        let words: Vec<&str> = line.split_whitespace().collect();
        let Some(token) = words.first() else { continue };
        let is_token = token.len() >= 16
            && token.chars().all(|c| c.is_ascii_alphanumeric() || "-._~+/=".contains(c));
        let scopes = words.get(1).unwrap_or(&"read");
        let are_scopes = scopes.split(',').all(|scope| ["read", "write", "block"].contains(&scope));
        let prefixes = words.get(2..).unwrap_or_default();
        let are_paths = prefixes.iter().all(|path| path.parse::<PathPrefix>().is_ok());
        if !(is_token && are_scopes && are_paths) {
            return Expected::Mistake { line: at + 1 };
        }
        found = Expected::Tokens;
    }
    found
}

/// Lines, most of which are nearly right.
pub fn arbitrary(u: &mut Unstructured<'_>) -> String {
    let mut text = String::new();
    while !u.is_empty() {
        let Ok(line) = line(u) else { break };
        text.push_str(&line);
        text.push('\n');
    }
    text
}

fn line(u: &mut Unstructured<'_>) -> Result<String> {
    let tokens = [
        "0123456789abcdef",
        "token-token-token-token",
        "a.b_c~d+e/f=g-h==",
        "too-short",
        "sécret-sécret-sécret",
    ];
    let scopes =
        ["read", "write", "block", "read,write", "read,write,block", "read,", "all", "READ"];
    let paths =
        ["/", "/streamfs", "/streamfs/cam", "/streamfs/", "streamfs", "//", "/a/../b", "/späße"];
    let mut words = Vec::new();
    for (at, known) in [&tokens[..], &scopes, &paths, &paths].into_iter().enumerate() {
        if at > 0 && u.int_in_range(0..=7)? == 0 {
            break;
        }
        words.push(if u.int_in_range(0..=15)? == 15 {
            text(u)?
        } else {
            (*u.choose(known)?).to_owned()
        });
    }
    let blank = *u.choose(&[" ", " ", " ", "\t", "  ", "\u{2003}", " # "])?;
    Ok(words.join(blank))
}

/// Some of the bytes, as text.
pub fn text(u: &mut Unstructured<'_>) -> Result<String> {
    let len = u.int_in_range(0..=24)?.min(u.len());
    Ok(String::from_utf8_lossy(u.bytes(len)?).into_owned())
}
