//! Query string parsing. An unknown key is an error that lists the known keys.

use axum::{
    extract::Query as Pairs,
    http::{StatusCode, Uri},
};
use pfs_proto::parse_size;

use crate::problem::Problem;

/// Keys and values of a query string.
#[derive(Debug)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    /// Parses the query of a URI. Only the `allowed` keys may occur, each at most once.
    pub(crate) fn from_uri(uri: &Uri, allowed: &[&str]) -> Result<Self, Problem> {
        let pairs = Pairs::<Vec<(String, String)>>::try_from_uri(uri);
        let Pairs(pairs) = pairs.map_err(|error| bad(error.to_string()))?;
        for (at, (key, _)) in pairs.iter().enumerate() {
            if !allowed.contains(&key.as_str()) {
                let known = match allowed {
                    [] => "this request takes no parameters".to_owned(),
                    _ => format!("this request takes {}", allowed.join(", ")),
                };
                return Err(bad(format!("?{} is not known; {known}", shown(key))));
            }
            if pairs.iter().take(at).any(|(other, _)| other == key) {
                return Err(bad(format!("?{key} is given twice")));
            }
        }
        Ok(Self(pairs))
    }

    /// Value of a key.
    pub(crate) fn value(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == key).map(|(_, value)| value.as_str())
    }

    /// Whether a flag is set: its key is present, and its value is not `false`.
    pub(crate) fn flag(&self, key: &str) -> Result<bool, Problem> {
        let flag = self.parsed(key, "true or false", |value| match value {
            "" | "true" => Some(true),
            "false" => Some(false),
            _ => None,
        })?;
        Ok(flag.unwrap_or(false))
    }

    /// Parses a value with `parse`. If `parse` returns `None`, the error says what is `allowed`.
    pub(crate) fn parsed<T>(
        &self,
        key: &str,
        allowed: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, Problem> {
        let Some(value) = self.value(key) else { return Ok(None) };
        let parsed = parse(value);
        parsed.map(Some).ok_or_else(|| bad(format!("?{key}={} is not {allowed}", shown(value))))
    }

    /// Parses a value as a size.
    pub(crate) fn size(&self, key: &str) -> Result<Option<u64>, Problem> {
        self.parsed(key, "a size of at least one byte, such as 524288 or 512KB", |size| {
            parse_size(size).ok()
        })
    }

    /// Returns an error if more than one of these keys is present.
    pub(crate) fn at_most_one(&self, keys: &[&str]) -> Result<(), Problem> {
        let there: Vec<&str> =
            keys.iter().filter(|key| self.value(key).is_some()).copied().collect();
        match there.as_slice() {
            [first, second, ..] => Err(bad(format!("?{first} cannot be used with ?{second}"))),
            _ => Ok(()),
        }
    }
}

/// Problem of a query that is not understood.
pub(crate) fn bad(message: impl Into<String>) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "bad_option", message)
}

/// Text of a client, shortened and escaped for messages.
fn shown(text: &str) -> String {
    text.escape_debug().take(64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(uri: &str) -> Result<Query, Problem> {
        Query::from_uri(&uri.parse().unwrap(), &["from", "wait"])
    }

    #[test]
    fn unknown_and_repeated_keys_are_refused_and_known_keys_are_listed() {
        for (uri, says) in [
            ("/s?form=1", "?form is not known; this request takes from, wait"),
            ("/s?from=1&from=2", "?from is given twice"),
        ] {
            assert_eq!(query(uri).unwrap_err().message, says);
        }
        let none = Query::from_uri(&"/s?x".parse().unwrap(), &[]).unwrap_err();
        assert_eq!(none.message, "?x is not known; this request takes no parameters");
    }

    #[test]
    fn a_flag_is_set_by_its_presence() {
        for (uri, set) in
            [("/s", false), ("/s?wait", true), ("/s?wait=true", true), ("/s?wait=false", false)]
        {
            assert_eq!(query(uri).unwrap().flag("wait").unwrap(), set, "{uri}");
        }
        let wrong = query("/s?wait=maybe").unwrap().flag("wait").unwrap_err();
        assert_eq!(
            (wrong.status, wrong.message.as_str()),
            (StatusCode::BAD_REQUEST, "?wait=maybe is not true or false")
        );
    }

    #[test]
    fn values_are_decoded_and_quoted_short_and_printable_in_messages() {
        let query = query(&format!("/s?from=a%20b%1b{}", "x".repeat(500))).unwrap();
        assert!(query.value("from").unwrap().starts_with("a b\x1b"));
        let message = query.parsed("from", "a number", |_| None::<u8>).unwrap_err().message;
        assert!(message.len() < 120 && !message.contains('\x1b'), "{message}");
    }
}
