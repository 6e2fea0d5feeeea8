//! Path lookup: resolves a path to a directory, document or stream, and describes it as AGFS does.

use std::{
    collections::{BTreeMap, HashMap},
    time::SystemTime,
};

use axum::http::StatusCode;
use pfs_host::{Caller, Place, mount::Entry};
use pfs_proto::{PathPrefix, StreamPath, json::timestamp};
use pfs_stream::StreamSummary;
use serde::Serialize;

use super::refusal::Refusal;
use crate::Site;

/// Plugin name in descriptions, whatever the name of the mount.
const PLUGIN: &str = "streamfs";

/// Directory, document or stream at a path.
#[derive(Debug)]
pub(super) enum Node {
    /// The root, a mount, or a path that is a parent of streams.
    Directory(PathPrefix),
    Document(StreamPath, &'static str),
    Stream(StreamPath, Entry),
}

/// Description of a file or directory, with the field names of AGFS.
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
    /// Looks up the node at a path.
    pub(super) async fn at(site: &Site, caller: &Caller, path: &str) -> Result<Self, Refusal> {
        let prefix = parse(path)?;
        let namespace = &site.daemon.namespace;
        if prefix.as_str() == "/" || namespace.mounts().any(|mount| mount == prefix.as_str()) {
            return Ok(Self::Directory(prefix));
        }
        let path = stream_path(site, prefix.as_str())?;
        if let Some(text) = site.daemon.document(caller, &path)? {
            return Ok(Self::Document(path, text));
        }
        if let Some(stream) = site.daemon.readable(caller, &path)?.find().await? {
            let content_type = stream.content_type().map(str::to_owned);
            return Ok(Self::Stream(path, Entry { summary: stream.summary(), content_type }));
        }
        // Fails if there is no stream below the path.
        site.daemon.list(caller, prefix.as_str()).await?;
        Ok(Self::Directory(prefix))
    }

    pub(super) async fn info(&self, site: &Site, caller: &Caller) -> Result<Info, Refusal> {
        Ok(match self {
            Self::Directory(prefix) => {
                let entries = site.daemon.list(caller, prefix.as_str()).await?;
                let newest = entries.iter().map(|entry| changed(&entry.summary)).max();
                Info::directory(
                    last_segment(prefix.as_str()),
                    newest.unwrap_or_else(|| site.daemon.info().started),
                )
            }
            Self::Document(path, text) => Info::document(last_segment(path.as_str()), text, site),
            Self::Stream(path, entry) => Info::stream(last_segment(path.as_str()), entry),
        })
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

    pub(super) fn stream(name: &str, entry: &Entry) -> Self {
        let modified = timestamp(changed(&entry.summary));
        let StreamSummary { state, head, tail, writers, readers, .. } = entry.summary;
        let mut content = BTreeMap::from([
            ("total_written", head.to_string()),
            ("active_readers", readers.to_string()),
            ("active_writers", writers.to_string()),
            ("oldest_offset", tail.to_string()),
            ("state", state.to_string()),
        ]);
        content.extend(entry.content_type.clone().map(|text| ("content_type", text)));
        let meta = Meta { plugin: PLUGIN, kind: "stream", content };
        Self { name: name.to_owned(), size: head, mode: 0o644, modified, is_dir: false, meta }
    }
}

/// Lists the direct children of a directory: documents, streams, and the directories that the names
/// of streams imply.
pub(super) async fn children(
    site: &Site,
    caller: &Caller,
    directory: &PathPrefix,
) -> Result<Vec<Info>, Refusal> {
    let namespace = &site.daemon.namespace;
    let started = site.daemon.info().started;
    let above = if directory.as_str() == "/" { "" } else { directory.as_str() };
    let mut found = BTreeMap::new();
    let mut directories: HashMap<String, SystemTime> = HashMap::new();
    if above.is_empty() {
        directories.extend(
            namespace.mounts().map(|mount| (mount.trim_start_matches('/').to_owned(), started)),
        );
    }
    // The root has no documents.
    if let Ok(readme) = format!("{above}/README").parse()
        && let Ok(Place::Document(text)) = namespace.place(&readme)
    {
        found.insert("README".to_owned(), Info::document("README", text, site));
    }
    for entry in site.daemon.list(caller, directory.as_str()).await? {
        let below =
            entry.summary.path.strip_prefix(above).and_then(|below| below.strip_prefix('/'));
        let Some(below) = below else { continue };
        match below.split_once('/') {
            None => {
                found.insert(below.to_owned(), Info::stream(below, &entry));
            }
            Some((name, _)) => {
                let newest = directories.entry(name.to_owned()).or_insert(started);
                *newest = changed(&entry.summary).max(*newest);
            }
        }
    }
    for (name, modified) in directories {
        // A stream may have the same name as a directory. Then the entry is the stream, because
        // path lookup prefers the stream.
        found.entry(name).or_insert_with_key(|name| Info::directory(name, modified));
    }
    Ok(found.into_values().collect())
}

/// Parses a path. Trailing slashes are ignored.
pub(super) fn parse(path: &str) -> Result<PathPrefix, Refusal> {
    let trimmed = path.trim_end_matches('/');
    (if trimmed.is_empty() && !path.is_empty() { "/" } else { trimmed }).parse().map_err(bad_path)
}

/// Parses the path of a stream or document.
pub(super) fn stream_path(site: &Site, path: &str) -> Result<StreamPath, Refusal> {
    let prefix = parse(path)?;
    if prefix.as_str() == "/"
        || site.daemon.namespace.mounts().any(|mount| mount == prefix.as_str())
    {
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
    Refusal::bad(format!("the path is invalid: {error}"))
}

fn last_segment(path: &str) -> &str {
    path.rsplit('/').next().filter(|name| !name.is_empty()).unwrap_or("/")
}

fn changed(summary: &StreamSummary) -> SystemTime {
    summary.last_append.unwrap_or(summary.created)
}
