//! Owners of streams: the users and tokens that have quotas.

use std::fmt;

/// The user or token that a client's new streams are charged to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Owner {
    /// A user of this machine, by the uid that the system reports. All clients without a known uid
    /// share one quota.
    User(Option<u32>),
    /// The holder of a token.
    Token(TokenId),
    /// A client over HTTP that needed no token. The client has no quota, because it cannot be
    /// distinguished from other clients.
    Anonymous,
}

/// The digest of a token. The digest distinguishes tokens, and is never shown.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TokenId([u8; 32]);

impl TokenId {
    /// Creates the id of the token with this digest.
    pub fn new(digest: [u8; 32]) -> Self {
        Self(digest)
    }
}

impl fmt::Debug for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenId")
    }
}

/// The owner as messages to the client name it.
impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(Some(uid)) => write!(f, "user {uid}"),
            Self::User(None) => f.write_str("users without a known uid"),
            Self::Token(_) => f.write_str("this token"),
            Self::Anonymous => f.write_str("clients without a token"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_never_shown() {
        let owner = Owner::Token(TokenId::new([0xab; 32]));
        assert_eq!(format!("{owner}, {owner:?}"), "this token, Token(TokenId)");
    }
}
