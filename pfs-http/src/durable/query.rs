//! Query parameters of a read.

use axum::{extract::Query as Parameters, http::Uri};

use super::{offset::Token, refusal::Refusal};

/// Query parameters of a read. Unknown names are ignored: the protocol reserves them for
/// future use.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Query {
    pub(super) from: From,
    pub(super) live: Option<Live>,
    pub(super) cursor: Option<String>,
}

/// Start of a read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum From {
    /// At the oldest byte that the ring holds.
    #[default]
    Beginning,
    /// At head.
    Now,
    At(Token),
}

/// Mode of a read that waits at head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Live {
    LongPoll,
    Sse,
}

impl Query {
    pub(super) fn from_uri(uri: &Uri) -> Result<Self, Refusal> {
        let parameters = Parameters::<Vec<(String, String)>>::try_from_uri(uri);
        let Parameters(parameters) =
            parameters.map_err(|_| Refusal::bad_request("the query string cannot be parsed"))?;
        let one = |key: &str| {
            let mut values = parameters
                .iter()
                .filter(|(known, _)| known == key)
                .map(|(_, value)| value.as_str());
            let value = values.next();
            if values.next().is_some() {
                return Err(Refusal::bad_request(format!("{key} was given more than once")));
            }
            Ok(value)
        };
        let offset = one("offset")?;
        let from = match offset {
            None | Some("-1") => From::Beginning,
            Some("now") => From::Now,
            Some(token) => From::At(token.parse().map_err(|_| {
                Refusal::bad_request(
                    "offset must be -1, now, or a value of Stream-Next-Offset from this server",
                )
            })?),
        };
        let live = match one("live")? {
            None => None,
            Some("long-poll") => Some(Live::LongPoll),
            Some("sse") => Some(Live::Sse),
            Some(_) => return Err(Refusal::bad_request("live must be long-poll or sse")),
        };
        if live.is_some() && offset.is_none() {
            return Err(Refusal::bad_request(
                "a live read needs an offset to start at, such as offset=-1",
            ));
        }
        Ok(Self { from, live, cursor: one("cursor")?.map(str::to_owned) })
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use pfs_proto::Identity;

    use super::*;

    fn query(parameters: &str) -> Option<Query> {
        Query::from_uri(&format!("/v1/stream/s{parameters}").parse().unwrap()).ok()
    }

    #[test]
    fn a_read_begins_at_the_oldest_byte_by_default() {
        assert_eq!(query(""), Some(Query::default()));
        assert_eq!(query("?offset=-1&other=1&other=2"), Some(Query::default()));
        assert_eq!(query("?offset=now").unwrap().from, From::Now);
        let token = Token { identity: Identity::new(UNIX_EPOCH, 1), offset: 2 };
        assert_eq!(query(&format!("?offset={token}")).unwrap().from, From::At(token));
    }

    #[test]
    fn invalid_query_parameters_are_refused() {
        let bad = [
            "?offset=",
            "?offset=0",
            "?offset=0,1",
            "?offset=-1&offset=-1",
            "?offset=%2e%2e%2f",
            "?live=sse",
            "?offset=-1&live=ws",
            "?offset=-1&live=",
        ];
        for bad in bad {
            assert_eq!(query(bad), None, "{bad}");
        }
    }
}
