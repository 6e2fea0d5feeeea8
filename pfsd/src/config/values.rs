//! Validation and conversion of the values in the configuration file.

use std::{net::SocketAddr, ops::RangeInclusive, path::PathBuf, time::Duration};

use pfs_http::settings::parse_listen_address;
use pfs_proto::{StreamPath, parse_size};
#[cfg(feature = "remote")]
use pfs_remote::Keep;
use toml::{Spanned, Value};

use super::{IdleExit, Shm, error::Mistake, file::Given};

const SIZES_ALLOWED: &str = "a size of at least one byte: a number of bytes (524288), or text with B, KB, MB, GB or TB (\"512KB\", \"1.5MB\")";

const HTTP_ADDRESSES_ALLOWED: &str =
    "a port of the loopback address (4437), or an address and a port (\"0.0.0.0:4437\")";

/// The shortest allowed waiting time.
const MIN_DURATION: Duration = Duration::from_millis(1);

const DAY: Duration = Duration::from_hours(24);

type Validated<T> = Result<Option<T>, Mistake>;

/// Validates an optional value; `allowed` completes the error message.
fn validate<T>(
    key: &str,
    given: &Given,
    allowed: &str,
    meaning: impl FnOnce(&Value) -> Result<T, String>,
) -> Validated<T> {
    let Some(spanned) = given else { return Ok(None) };
    meaning(spanned.get_ref()).map(Some).map_err(|problem| mistake(key, spanned, &problem, allowed))
}

fn mistake(key: &str, spanned: &Spanned<Value>, problem: &str, allowed: &str) -> Mistake {
    let shown = match spanned.get_ref() {
        value @ (Value::Table(_) | Value::Array(_)) => format!("a {}", value.type_str()),
        value => value.to_string(),
    };
    Mistake {
        at: Some(spanned.span()),
        reason: format!("{key} = {shown} is not allowed: {problem}; allowed: {allowed}"),
    }
}

fn wrong_type(value: &Value) -> String {
    format!("the value has the type {}", value.type_str())
}

fn text(value: &Value) -> Result<&str, String> {
    value.as_str().ok_or_else(|| wrong_type(value))
}

pub(super) fn boolean(key: &str, given: &Given) -> Validated<bool> {
    validate(key, given, "true or false", |value| value.as_bool().ok_or_else(|| wrong_type(value)))
}

pub(super) fn size(key: &str, given: &Given) -> Validated<u64> {
    validate(key, given, SIZES_ALLOWED, |value| match value {
        // An integer is parsed like its text.
        Value::Integer(bytes) => parse_size(&bytes.to_string()).map_err(|error| error.to_string()),
        Value::String(text) => parse_size(text).map_err(|error| error.to_string()),
        _ => Err(wrong_type(value)),
    })
}

/// Validates a count of at least one.
pub(super) fn count(key: &str, given: &Given) -> Validated<u32> {
    validate(key, given, "a number from 1 to 4294967295", |value| {
        let number = value.as_integer().ok_or_else(|| wrong_type(value))?;
        match u32::try_from(number) {
            Ok(number) if number > 0 => Ok(number),
            _ => Err("the value is out of range".to_owned()),
        }
    })
}

/// Validates a mount: one segment below the root.
pub(super) fn mount(key: &str, given: &Given) -> Validated<String> {
    validate(key, given, "an absolute path of one segment, such as \"/streamfs\"", |value| {
        let mount = text(value)?;
        mount_path(mount).map(|()| mount.to_owned())
    })
}

/// Checks the path of a mount.
pub(super) fn mount_path(mount: &str) -> Result<(), String> {
    // A mount is valid if a stream below it has a valid path with exactly this mount.
    let stream: StreamPath = format!("{mount}/s").parse().map_err(|error| format!("{error}"))?;
    if stream.mount() != mount || stream.name() != "s" {
        return Err("the path has more than one segment".to_owned());
    }
    Ok(())
}

pub(super) fn absolute_path(key: &str, given: &Given) -> Validated<PathBuf> {
    validate(key, given, "an absolute path", |value| {
        let path = PathBuf::from(text(value)?);
        if path.is_absolute() { Ok(path) } else { Err("the path is not absolute".to_owned()) }
    })
}

/// Validates file permissions in octal digits; the owner must be able to connect.
pub(super) fn mode(key: &str, given: &Given) -> Validated<u32> {
    let allowed =
        "text of octal digits from \"0600\" to \"0777\" that lets the owner read and write";
    validate(key, given, allowed, |value| {
        let digits = text(value)?;
        if !(3..=4).contains(&digits.len())
            || !digits.bytes().all(|digit| (b'0'..=b'7').contains(&digit))
        {
            return Err("the mode does not have three or four octal digits".to_owned());
        }
        match u32::from_str_radix(digits, 8) {
            Ok(mode) if mode & 0o600 == 0o600 && mode <= 0o777 => Ok(mode),
            _ => Err("the value is out of range".to_owned()),
        }
    })
}

pub(super) fn shm(key: &str, given: &Given) -> Validated<Shm> {
    validate(key, given, "\"same-user\" or \"all\"", |value| match text(value)? {
        "same-user" => Ok(Shm::SameUser),
        "all" => Ok(Shm::All),
        _ => Err("the value does not name a set of clients".to_owned()),
    })
}

pub(super) fn http_address(key: &str, given: &Given) -> Validated<SocketAddr> {
    validate(key, given, HTTP_ADDRESSES_ALLOWED, |value| match value {
        Value::Integer(port) => parse_listen_address(&port.to_string()),
        _ => parse_listen_address(text(value)?),
    })
}

/// Validates a list; `meaning` converts each entry.
pub(super) fn list<T>(
    key: &str,
    given: &Given,
    allowed: &str,
    meaning: impl Fn(&str) -> Result<T, String>,
) -> Validated<Vec<T>> {
    validate(key, given, allowed, |value| {
        let list = value.as_array().ok_or_else(|| wrong_type(value))?;
        list.iter().map(|entry| meaning(text(entry)?)).collect()
    })
}

/// Validates a text or a list of texts, at least one; `meaning` converts each.
#[cfg(feature = "remote")]
pub(super) fn one_or_more<T>(
    key: &str,
    given: &Given,
    allowed: &str,
    meaning: impl Fn(&str) -> Result<T, String>,
) -> Validated<Vec<T>> {
    validate(key, given, allowed, |value| match value.as_array() {
        Some(list) if list.is_empty() => Err("the list is empty".to_owned()),
        Some(list) => list.iter().map(|entry| meaning(text(entry)?)).collect(),
        None => meaning(text(value)?).map(|one| vec![one]),
    })
}

/// Validates how long a replica without readers is kept.
#[cfg(feature = "remote")]
pub(super) fn keep(key: &str, given: &Given) -> Validated<Keep> {
    let allowed = "a time from \"1s\" to \"365days\", such as \"30s\" or \"1h\", or \"always\"";
    validate(key, given, allowed, |value| match text(value)? {
        "always" => Ok(Keep::Always),
        other => time(other, Duration::from_secs(1)..=365 * DAY).map(Keep::For),
    })
}

/// Validates a finite waiting time above zero.
pub(super) fn duration(key: &str, given: &Given) -> Validated<Duration> {
    validate(key, given, "a time from \"1ms\" to \"1day\", such as \"10s\" or \"2m\"", |value| {
        time(text(value)?, MIN_DURATION..=DAY)
    })
}

/// Validates a lifetime.
pub(super) fn lifetime(key: &str, given: &Given) -> Validated<Duration> {
    validate(
        key,
        given,
        "a time from \"1s\" to \"365days\", such as \"10m\" or \"1day\"",
        |value| time(text(value)?, Duration::from_secs(1)..=365 * DAY),
    )
}

/// Validates a waiting time, or `never`.
pub(super) fn idle_exit(key: &str, given: &Given) -> Validated<IdleExit> {
    validate(
        key,
        given,
        "a time from \"1ms\" to \"1day\", such as \"10m\", or \"never\"",
        |value| match text(value)? {
            "never" => Ok(IdleExit::Never),
            other => time(other, MIN_DURATION..=DAY).map(IdleExit::After),
        },
    )
}

fn time(text: &str, allowed: RangeInclusive<Duration>) -> Result<Duration, String> {
    let time = pfs_proto::parse_duration(text).map_err(|error| error.to_string())?;
    if allowed.contains(&time) { Ok(time) } else { Err("the value is out of range".to_owned()) }
}

/// Reports a value that is wrong only in combination with another one.
pub(super) fn misplaced(given: &Given, reason: &str) -> Mistake {
    Mistake { at: given.as_ref().map(Spanned::span), reason: reason.to_owned() }
}
