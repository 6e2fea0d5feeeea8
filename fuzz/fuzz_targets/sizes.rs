//! Fuzz target: sizes, durations, counts, modes and addresses as people write them in flags and in
//! the configuration. Each means what a plain model says, and its printed form parses to the same
//! value.

#![no_main]

#[allow(dead_code, reason = "only the command line shows ages")]
#[path = "../../pfs-cli/src/age.rs"]
mod age;
#[allow(dead_code, reason = "as above")]
#[path = "../../pfs-cli/src/size.rs"]
mod size;
#[allow(dead_code, reason = "as above")]
#[path = "../../pfs-cli/src/until.rs"]
mod until;

use std::{net::SocketAddr, str::FromStr, time::Duration};

use libfuzzer_sys::{
    arbitrary::{Arbitrary, Unstructured},
    fuzz_target,
};
use pfs_http::settings::{Host, Origin};
use pfs_proto::{Identity, PathPrefix, SizeError, SlowPolicy, StreamPath, parse_size};
use pfsd::config::Config;

// The first byte selects how the rest becomes a text, and is a digit in seeds.
fuzz_target!(|data: &[u8]| {
    let [kind, rest @ ..] = data else { return };
    let mut bytes = Unstructured::new(rest);
    let text = match kind % 4 {
        0 => String::from_utf8_lossy(rest).into_owned(),
        _ => words(&mut bytes),
    };
    if std::env::var_os("PFS_FUZZ_PRINT").is_some() {
        eprintln!("{text:?}");
    }
    check_size(&text);
    check_duration(&text);
    check_configuration(&text);
    check_shown::<StreamPath>(&text);
    check_shown::<PathPrefix>(&text);
    check_shown::<SlowPolicy>(&text);
    check_shown::<Identity>(&text);
    check_shown::<Origin>(&text);
    if let Ok(host) = text.parse::<Host>() {
        assert!(!host.name.is_empty() && host.name == host.name.to_ascii_lowercase());
    }
    if let Ok(number) = u64::arbitrary(&mut bytes) {
        check_number(number);
    }
});

/// Text made of digits, units, signs and separators.
fn words(u: &mut Unstructured<'_>) -> String {
    const WORDS: [&str; 41] = [
        "",
        " ",
        ".",
        "-",
        "+",
        ",",
        "0",
        "00",
        "1",
        "9",
        "10",
        "1024",
        "0.5",
        "999999999",
        "18446744073709551615",
        "18446744073709551616",
        "b",
        "KB",
        "kib",
        "Mb",
        "GiB",
        "tb",
        "TIB",
        "ns",
        "us",
        "ms",
        "s",
        "m",
        "h",
        "d",
        "w",
        "month",
        "y",
        "idle=",
        "closed",
        "0600",
        "127.0.0.1",
        "localhost:",
        "[::1]",
        ":",
        "https://",
    ];
    let mut text = String::new();
    while let Ok(at) = u.int_in_range(0..=WORDS.len()) {
        if u.is_empty() {
            break;
        }
        match WORDS.get(at) {
            Some(word) => text.push_str(word),
            None => text.push_str(&u.arbitrary::<u32>().unwrap_or_default().to_string()),
        }
    }
    text
}

fn check_size(text: &str) {
    let expected = model_size(text);
    assert_eq!(parse_size(text).ok(), expected, "{text:?}");
    let told = size::parse_size(text);
    assert_eq!(told.as_ref().ok().copied(), expected);
    let zero = parse_size(text) == Err(SizeError::Zero);
    assert_eq!(size::parse_size_or_zero(text).ok(), if zero { Some(0) } else { expected });
    if let Err(error) = told {
        assert!(
            error.to_string().contains("512KB"),
            "the message has an example of a size: {error}"
        );
    }
}

/// Model of `parse_size`: decimal digits of any number, multiplied by hand.
fn model_size(text: &str) -> Option<u64> {
    let text = text.trim();
    let (number, unit) =
        text.split_at(text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len()));
    let doublings = match unit.trim_start().to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return None,
    };
    let (whole, fraction) = match number.split_once('.') {
        Some((_, fraction)) if fraction.is_empty() || fraction.contains('.') || doublings == 0 => {
            return None;
        }
        Some(parts) => parts,
        None => (number, ""),
    };
    if whole.is_empty() {
        return None;
    }
    // Least significant digit first.
    let mut digits: Vec<u8> =
        whole.bytes().chain(fraction.bytes()).rev().map(|digit| digit - b'0').collect();
    for _ in 0..doublings {
        let mut carried = 0;
        for digit in &mut digits {
            let doubled = *digit * 2 + carried;
            (*digit, carried) = (doubled % 10, doubled / 10);
        }
        if carried > 0 {
            digits.push(carried);
        }
    }
    let mut bytes: u64 = 0;
    for digit in digits[fraction.len()..].iter().rev() {
        bytes = bytes.checked_mul(10)?.checked_add(u64::from(*digit))?;
    }
    (bytes > 0).then_some(bytes)
}

fn check_duration(text: &str) {
    match age::parse_duration(text) {
        Ok(duration) => {
            assert!(!duration.is_zero());
            let shown = humantime::format_duration(duration).to_string();
            assert_eq!(age::parse_duration(&shown), Ok(duration), "{shown}");
            check_span(duration);
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    let idle = until::parse_until(&format!("idle={text}"));
    assert_eq!(idle.ok().and_then(until::Until::idle), age::parse_duration(text).ok());
    if let Ok(until) = until::parse_until(text) {
        assert!(
            until.idle().is_some() || ["closed", "caught-up", "writers-gone"].contains(&text),
            "{text:?}"
        );
    }
}

/// A printed span is at most the duration, and more than half of it unless the duration is below a
/// millisecond.
fn check_span(duration: Duration) {
    let shown = age::span(duration);
    let read = humantime::parse_duration(&shown).unwrap_or_else(|error| panic!("{shown}: {error}"));
    assert!(
        read <= duration && (duration < Duration::from_millis(1) || read > duration / 2),
        "{shown}: {duration:?}"
    );
}

/// A value means the same in the configuration as elsewhere.
fn check_configuration(text: &str) {
    let toml = |key: &str, value: &str| {
        let (table, key) = key.split_once('.').expect("a table and a key");
        Config::from_toml(&format!("[{table}]\n{key} = {value}"), "pfsd.toml", None)
    };
    let quoted: String = text.chars().map(|c| format!("\\U{:08X}", u32::from(c))).collect();
    let quoted = format!("\"{quoted}\"");

    let header_size = toml("limits.max_header_size", &quoted)
        .ok()
        .map(|config| config.http.limits.max_header_size);
    let expected = model_size(text).filter(|size| (1024..=1024 * 1024).contains(size));
    assert_eq!(header_size.map(|size| size as u64), expected, "{text:?}");

    let time = toml("limits.idle_time", &quoted).ok().map(|config| config.http.limits.idle_time);
    let allowed = Duration::from_millis(1)..=Duration::from_secs(24 * 3600);
    assert_eq!(
        time,
        age::parse_duration(text).ok().filter(|time| allowed.contains(time)),
        "{text:?}"
    );

    let mode = toml("listen.socket_mode", &quoted).ok().map(|config| config.socket_mode);
    assert_eq!(mode, model_mode(text), "{text:?}");

    let address = toml("listen.http", &quoted).ok().and_then(|config| config.http.address);
    assert_eq!(address, model_address(text), "{text:?}");

    if !text.is_empty()
        && text.len() < 20
        && text.bytes().all(|byte| byte.is_ascii_digit())
        && !text.starts_with('0')
    {
        let count =
            toml("limits.max_streams", text).ok().map(|config| config.host.limits.max_streams);
        let expected = text.parse::<u32>().ok().filter(|count| *count > 0);
        assert_eq!(count, expected.map(|count| count as usize), "{text:?}");
    }
}

/// A port on loopback, or an address and a port.
fn model_address(text: &str) -> Option<SocketAddr> {
    let port = text.strip_prefix("localhost:").or_else(|| text.strip_prefix(':')).unwrap_or(text);
    if port.is_empty() || !port.bytes().all(|byte| byte.is_ascii_digit()) {
        return SocketAddr::from_str(text).ok();
    }
    Some(([127, 0, 0, 1], port.parse().ok()?).into())
}

/// `0600` to `0777`, where the owner's digit is 6 or 7.
fn model_mode(text: &str) -> Option<u32> {
    let digits = match text.as_bytes() {
        [b'0', digits @ ..] if digits.len() == 3 => digits,
        digits if digits.len() == 3 => digits,
        _ => return None,
    };
    let digit = |digit: &u8| (b'0'..=b'7').contains(digit).then(|| u32::from(digit - b'0'));
    let [owner, group, others] = [digit(&digits[0])?, digit(&digits[1])?, digit(&digits[2])?];
    (owner >= 6).then_some(owner * 64 + group * 8 + others)
}

/// The printed form of a value parses to the same value.
fn check_shown<T: FromStr<Err: ToString> + ToString + PartialEq>(text: &str) {
    match text.parse::<T>() {
        Ok(value) => {
            assert!(value.to_string().parse().is_ok_and(|again: T| again == value), "{text:?}")
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// A printed size parses to a value that differs by less than the digits left out.
fn check_number(bytes: u64) {
    let shown = size::size(bytes);
    let read = size::parse_size_or_zero(&shown);
    // Parsing ends at TiB; larger sizes are printed only for people.
    if bytes < 1 << 50 {
        let read = read.unwrap_or_else(|error| panic!("{shown}: {error}"));
        assert!(read.abs_diff(bytes) <= bytes / 16, "{bytes} is shown as {shown}");
    }
    check_span(Duration::from_nanos(bytes));
}
