//! What a path stands for, and how AGFS describes it.

use std::{
    collections::{BTreeMap, HashMap},
    time::SystemTime,
};

use axum::http::StatusCode;
use pfs_host::{Failure, Place};
use pfs_proto::{PathPrefix, StreamPath, json::timestamp};
use pfs_stream::{Stream, StreamSummary};
use serde::Serialize;

use super::refusal::Refusal;
use crate::{Site, access::Access};

/// What plays the part of the plugin, whatever the name of the mount.
const PLUGIN: &str = "streamfs";

/// Something with a path.
#[derive(Debug)]
pub(super) enum Node {
    /// The root, a mount, or what streams have before the last slash of their names.
    Directory(PathPrefix),
    Document(StreamPath, &'static str),
    Stream(StreamPath, Stream),
}

/// A file or directory, in the names of AGFS.
#[derive(Debug, Serialize)]
pub(super) struct Info {
    name: String,
    size: u64,
    mode: u32,
    #[serde(rename = "modTime")]
    modified: String,
    #[serde(rename = "isDir")]
    is_dir: bool,
    meta: Meta,
}

#[derive(Debug, Serialize)]
struct Meta {
    #[serde(rename = "Name")]
    plugin: &'static str,
    #[serde(rename = "Type")]
    kind: &'static str,
    #[serde(rename = "Content")]
    content: BTreeMap<&'static str, String>,
}

impl Node {
    /// What is at a path, which the client must be allowed to read.
    pub(super) fn at(site: &Site, access: &Access, path: &str) -> Result<Self, Refusal> {
        let prefix = parse(path)?;
        access.may_read(prefix.as_str())?;
        let namespace = &site.daemon.namespace;
        if prefix.as_str() == "/" || namespace.mounts().any(|mount| mount == prefix.as_str()) {
            return Ok(Self::Directory(prefix));
        }
        let path = stream_path(site, prefix.as_str())?;
        if let Place::Document(text) = namespace.place(&path)? {
            return Ok(Self::Document(path, text));
        }
        if let Some(stream) = site.daemon.get(&path) {
            return Ok(Self::Stream(path, stream));
        }
        if site.daemon.below(&prefix).next().is_some() {
            return Ok(Self::Directory(prefix));
        }
        Err(Failure::no_such_stream(path.as_str()).into())
    }

    pub(super) fn info(&self, site: &Site) -> Info {
        match self {
            Self::Directory(prefix) => {
                let newest = site.daemon.below(prefix).map(|stream| changed(&stream.summary())).max();
                Info::directory(
                    last_segment(prefix.as_str()),
                    newest.unwrap_or_else(|| site.daemon.info().started),
                )
            }
            Self::Document(path, text) => Info::document(last_segment(path.as_str()), text, site),
            Self::Stream(path, stream) => Info::stream(last_segment(path.as_str()), stream),
        }
    }
}

impl Info {
    pub(super) fn directory(name: &str, modified: SystemTime) -> Self {
        let meta = Meta { plugin: PLUGIN, kind: "directory", content: BTreeMap::new() };
        let modified = timestamp(modified);
        Self { name: name.to_owned(), size: 0, mode: 0o755, modified, is_dir: true, meta }
    }

    pub(super) fn document(name: &str, text: &str, site: &Site) -> Self {
        let meta = Meta { plugin: PLUGIN, kind: "doc", content: BTreeMap::new() };
        let (size, modified) = (pfs_host::wide(text.len()), timestamp(site.daemon.info().started));
        Self { name: name.to_owned(), size, mode: 0o444, modified, is_dir: false, meta }
    }

    pub(super) fn stream(name: &str, stream: &Stream) -> Self {
        let summary = stream.summary();
        let modified = timestamp(changed(&summary));
        let StreamSummary { state, head, tail, writers, readers, .. } = summary;
        let mut content = BTreeMap::from([
            ("total_written", head.to_string()),
            ("active_readers", readers.to_string()),
            ("active_writers", writers.to_string()),
            ("oldest_offset", tail.to_string()),
            ("state", state.to_string()),
        ]);
        content.extend(stream.config().content_type.clone().map(|text| ("content_type", text)));
        let meta = Meta { plugin: PLUGIN, kind: "stream", content };
        Self { name: name.to_owned(), size: head, mode: 0o644, modified, is_dir: false, meta }
    }
}

/// What is directly below a directory: documents, streams, and directories that streams have in their names.
pub(super) fn children(site: &Site, access: &Access, directory: &PathPrefix) -> Result<Vec<Info>, Refusal> {
    let namespace = &site.daemon.namespace;
    let started = site.daemon.info().started;
    let above = if directory.as_str() == "/" { "" } else { directory.as_str() };
    let mut found = BTreeMap::new();
    let mut directories: HashMap<String, SystemTime> = HashMap::new();
    if above.is_empty() {
        directories
            .extend(namespace.mounts().map(|mount| (mount.trim_start_matches('/').to_owned(), started)));
    }
    // The root has no documents.
    if let Ok(readme) = format!("{above}/README").parse()
        && let Ok(Place::Document(text)) = namespace.place(&readme)
    {
        found.insert("README".to_owned(), Info::document("README", text, site));
    }
    for stream in site.daemon.below(directory) {
        let below = stream.name().strip_prefix(above).and_then(|below| below.strip_prefix('/'));
        let Some(below) = below.filter(|_| access.may_read(stream.name()).is_ok()) else { continue };
        match below.split_once('/') {
            None => {
                found.insert(below.to_owned(), Info::stream(below, &stream));
            }
            Some((name, _)) => {
                let newest = directories.entry(name.to_owned()).or_insert(started);
                *newest = changed(&stream.summary()).max(*newest);
            }
        }
    }
    for (name, modified) in directories {
        // A stream may have the name that is also before the slash of others: it is what that path stands for.
        found.entry(name).or_insert_with_key(|name| Info::directory(name, modified));
    }
    Ok(found.into_values().collect())
}

/// A path in which slashes at the end mean nothing.
pub(super) fn parse(path: &str) -> Result<PathPrefix, Refusal> {
    let trimmed = path.trim_end_matches('/');
    (if trimmed.is_empty() && !path.is_empty() { "/" } else { trimmed }).parse().map_err(bad_path)
}

/// The path of a stream or document.
pub(super) fn stream_path(site: &Site, path: &str) -> Result<StreamPath, Refusal> {
    let prefix = parse(path)?;
    if prefix.as_str() == "/" || site.daemon.namespace.mounts().any(|mount| mount == prefix.as_str()) {
        return Err(is_directory(&prefix));
    }
    prefix
        .as_str()
        .parse()
        .map_err(|_| Refusal::new(StatusCode::NOT_FOUND, format!("{prefix} is outside the mounts")))
}

pub(super) fn is_directory(prefix: &PathPrefix) -> Refusal {
    Refusal::bad(format!("{prefix} is a directory"))
}

fn bad_path(error: pfs_proto::PathError) -> Refusal {
    Refusal::bad(format!("this is no path: {error}"))
}

fn last_segment(path: &str) -> &str {
    path.rsplit('/').next().filter(|name| !name.is_empty()).unwrap_or("/")
}

fn changed(summary: &StreamSummary) -> SystemTime {
    summary.last_append.unwrap_or(summary.created)
}
