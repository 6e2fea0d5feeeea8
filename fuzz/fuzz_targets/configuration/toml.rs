//! Generates configurations from bytes: known tables and keys, with values that may be right.

use libfuzzer_sys::arbitrary::{Result, Unstructured};

use crate::tokens::text;

/// Tables with their keys.
const TABLES: [(&str, &[&str]); 7] = [
    ("plugins.streamfs", &["enabled", "path", "config"]),
    ("plugins.streamfs.config", &["channel_buffer_size", "ring_buffer_size"]),
    ("listen", &["socket", "socket_mode", "shm", "http"]),
    ("http", &["allowed_hosts", "allowed_origins", "certificate", "key", "client_ca"]),
    ("auth", &["token_file"]),
    (
        "limits",
        &[
            "max_streams",
            "max_memory",
            "max_streams_per_user",
            "max_memory_per_user",
            "max_streams_per_token",
            "max_memory_per_token",
            "max_connections",
            "max_block_time",
            "idle_ttl",
            "idle_exit",
            "max_connections_per_address",
            "max_header_size",
            "header_time",
            "idle_time",
            "body_stall_time",
            "long_poll_time",
        ],
    ),
    ("plugins.memfs", &["enabled"]),
];

/// Values, in TOML syntax.
const VALUES: [&str; 53] = [
    "\"never\"",
    "true",
    "false",
    "0",
    "1",
    "7",
    "1024",
    "1048576",
    "524288",
    "4294967295",
    "4294967296",
    "9223372036854775807",
    "-1",
    "1.5",
    "nan",
    "1979-05-27",
    "\"\"",
    "\"/streamfs\"",
    "\"/späße\"",
    "\"/metrics\"",
    "\"/a/b\"",
    "\"/\"",
    "\"1\"",
    "\"1KB\"",
    "\"1.5MB\"",
    "\"64MiB\"",
    "\"1GB\"",
    "\"3TB\"",
    "\"8388607TB\"",
    "\"0.9999999999999999999999KB\"",
    "\"1ms\"",
    "\"1day\"",
    "\"24h 1ns\"",
    "\"10s\"",
    "\"500000000000y\"",
    "\"0600\"",
    "\"660\"",
    "\"0777\"",
    "\"0477\"",
    "\"/run/pfs/pfsd.sock\"",
    "\"pfsd.sock\"",
    "\"same-user\"",
    "\"all\"",
    "\"127.0.0.1:4437\"",
    "\"[::1]:0\"",
    "\"[::ffff:127.0.0.1]:1\"",
    "\"0.0.0.0:65535\"",
    "[\"streams.example.org\", \"[::1]:80\", \"A.:1\"]",
    "[\"https://player.example.org:443\", \"HTTP://[::1]\"]",
    "[1, \"a\"]",
    "[]",
    "{ a = { b = [[[1]]] } }",
    "\"\"\"\n\n\"\"\"",
];

pub fn arbitrary(u: &mut Unstructured<'_>) -> String {
    let mut toml = String::new();
    while !u.is_empty() {
        if put(u, &mut toml).is_err() {
            break;
        }
    }
    toml
}

/// Adds a table with some of its keys.
fn put(u: &mut Unstructured<'_>, toml: &mut String) -> Result<()> {
    let (table, keys) = *u.choose(&TABLES)?;
    toml.push_str(&match u.int_in_range(0..=15)? {
        13 => format!("[{}]\n", text(u)?),
        14 => format!("[[{table}]]\n"),
        // Dotted keys, outside of any table.
        15 => String::new(),
        _ => format!("[{table}]\n"),
    });
    for _ in 0..u.int_in_range(0..=3)? {
        let key = match u.int_in_range(0..=15)? {
            15 => text(u)?,
            14 => format!("{table}.{}", u.choose(keys)?),
            _ => (*u.choose(keys)?).to_owned(),
        };
        let value = match u.int_in_range(0..=15)? {
            0 => u.arbitrary::<i64>()?.to_string(),
            1 => quoted(&text(u)?),
            2 => text(u)?,
            3 => format!("[{}, {}]", quoted(&text(u)?), u.choose(&VALUES)?),
            _ => (*u.choose(&VALUES)?).to_owned(),
        };
        let end = *u.choose(&["\n", "\n", "\n", "\r\n", " # so\n", "\n\n", " "])?;
        toml.push_str(&format!("{key} = {value}{end}"));
    }
    Ok(())
}

/// A quoted string in which every character that needs it is escaped, and others too.
fn quoted(text: &str) -> String {
    let escaped = text.chars().map(|c| match c {
        c if c.is_ascii_alphanumeric() || " ./:-_[]".contains(c) => c.to_string(),
        c => format!("\\U{:08X}", u32::from(c)),
    });
    format!("\"{}\"", escaped.collect::<String>())
}
