//! Query string parsing. Like in AGFS, unknown keys are ignored, and only `true` sets a flag.

use std::str::FromStr;

use axum::{extract::Query as Pairs, http::Uri};
use serde::Deserialize;

use super::refusal::Refusal;

/// Query parameters of a request for a file or directory.
#[derive(Debug, Deserialize)]
pub(super) struct Query {
    path: Option<String>,
    offset: Option<String>,
    size: Option<String>,
    stream: Option<String>,
    recursive: Option<String>,
    until: Option<String>,
}

impl Query {
    pub(super) fn from_uri(uri: &Uri) -> Result<Self, Refusal> {
        let pairs = Pairs::<Self>::try_from_uri(uri);
        Ok(pairs.map_err(|error| Refusal::bad(error.to_string()))?.0)
    }

    /// Path of the file or directory, which is required.
    pub(super) fn path(&self) -> Result<&str, Refusal> {
        self.path_or_nothing().ok_or_else(|| Refusal::bad("path parameter is required"))
    }

    pub(super) fn path_or_nothing(&self) -> Option<&str> {
        self.path.as_deref().filter(|path| !path.is_empty())
    }

    /// Offset of the first byte to read from a document.
    pub(super) fn offset(&self) -> Result<i64, Refusal> {
        Ok(number("offset", self.offset.as_deref())?.unwrap_or(0))
    }

    /// Number of bytes to read from a document; a negative number means all bytes.
    pub(super) fn size(&self) -> Result<i64, Refusal> {
        Ok(number("size", self.size.as_deref())?.unwrap_or(-1))
    }

    /// Whether to follow a stream.
    pub(super) fn stream(&self) -> bool {
        self.stream.as_deref() == Some("true")
    }

    /// Whether to end at the head that the stream has when the request arrives. An extension
    /// of AGFS.
    pub(super) fn until_caught_up(&self) -> Result<bool, Refusal> {
        match self.until.as_deref() {
            None | Some("" | "closed") => Ok(false),
            Some("caught-up") => Ok(true),
            Some(_) => Err(Refusal::bad("until must be closed or caught-up")),
        }
    }

    pub(super) fn recursive(&self) -> bool {
        self.recursive.as_deref() == Some("true")
    }
}

fn number<T: FromStr>(key: &str, value: Option<&str>) -> Result<Option<T>, Refusal> {
    let value = value.filter(|value| !value.is_empty());
    let number = value.map(str::parse).transpose();
    number.map_err(|_| Refusal::bad(format!("invalid {key} parameter")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_required_and_offset_and_size_must_be_numbers() {
        let query = |uri: &str| Query::from_uri(&uri.parse().unwrap()).unwrap();
        assert!(query("/files").path().is_err() && query("/files?path=").path().is_err());
        let files = query("/files?path=/streamfs/a%20b&offset=-3&size=&stream=true&color=red");
        assert_eq!(files.path().unwrap(), "/streamfs/a b");
        assert_eq!(
            (files.offset().unwrap(), files.size().unwrap(), files.stream()),
            (-3, -1, true)
        );
        assert!(query("/files?path=/a&offset=x").offset().is_err());
        assert!(Query::from_uri(&"/files?path=/a&path=/b".parse().unwrap()).is_err());
    }
}
