//! Owners of streams: the users and tokens that quotas are for.

use std::fmt;

/// The identity of a client, to which the streams that it creates are charged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Owner {
    /// A user of this machine, by the uid that the system tells. All clients whose uid it does not
    /// tell are one more user.
    User(Option<u32>),
    /// The holder of a token.
    Token(TokenId),
    /// A client over HTTP that needed no token. It has no quota, because it cannot be told from
    /// others.
    Anonymous,
}

/// The digest of a token, which tells tokens apart and is never shown.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TokenId([u8; 32]);

impl TokenId {
    /// The token of this digest.
    pub fn new(digest: [u8; 32]) -> Self {
        Self(digest)
    }
}

impl fmt::Debug for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenId")
    }
}

/// As the client reads it in a message.
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
