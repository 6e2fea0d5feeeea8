//! JSON streams: a message is a chunk, on one line with its line end, so that other protocols see
//! JSON lines.

use std::fmt;

use serde::de::{Deserializer as _, Error as _, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::page::Chunks;

/// Maximum number of messages in one body.
const MAX_MESSAGES: usize = 1 << 16;

/// Reason why a body cannot be split into messages.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoMessages {
    #[error("the body is not valid JSON: {0}")]
    NoJson(serde_json::Error),
    #[error("the body has more than {MAX_MESSAGES} messages; send them in several requests")]
    TooMany,
}

/// Splits a body into messages: the elements of an array, or any other value as one message. Only
/// the white space between the tokens of a message is changed.
pub(super) fn messages(body: &[u8]) -> Result<Chunks, NoMessages> {
    let mut messages = Messages { chunks: Chunks::marked(), too_many: false };
    let mut json = serde_json::Deserializer::from_slice(body);
    let read = if body.trim_ascii_start().starts_with(b"[") {
        json.deserialize_seq(&mut messages)
    } else {
        serde::Deserialize::deserialize(&mut json).map(|message: &RawValue| messages.put(message))
    };
    match read.and_then(|()| json.end()) {
        Ok(()) => Ok(messages.chunks),
        Err(_) if messages.too_many => Err(NoMessages::TooMany),
        Err(error) => Err(NoMessages::NoJson(error)),
    }
}

/// Messages that have been parsed so far. They are stored as chunks at once, so that no second copy
/// of them exists.
struct Messages {
    chunks: Chunks,
    too_many: bool,
}

impl Messages {
    fn put(&mut self, message: &RawValue) {
        put_line(&mut self.chunks.bytes, message.get());
        self.chunks.mark();
    }
}

impl<'de> Visitor<'de> for &mut Messages {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of messages")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<(), A::Error> {
        while let Some(message) = elements.next_element::<&RawValue>()? {
            self.too_many = self.chunks.count() == MAX_MESSAGES;
            if self.too_many {
                return Err(A::Error::custom("too many messages"));
            }
            self.put(message);
        }
        Ok(())
    }
}

/// Appends valid JSON without insignificant white space, and a line end.
fn put_line(line: &mut Vec<u8>, json: &str) {
    let (mut in_string, mut escaped) = (false, false);
    for byte in json.bytes() {
        if in_string {
            in_string = escaped || byte != b'"';
            escaped = !escaped && byte == b'\\';
        } else if matches!(byte, b' ' | b'\t' | b'\n' | b'\r') {
            continue;
        } else {
            in_string = byte == b'"';
        }
        line.push(byte);
    }
    line.push(b'\n');
}

/// Joins the messages in these chunks to an array. Returns `None` if there is no message. Other
/// protocols may have appended any bytes: if a chunk has several values, each value is a message,
/// and a chunk that is not JSON is one message, a string with the chunk's text.
pub(super) fn array<'a>(chunks: impl Iterator<Item = &'a [u8]>) -> Option<Vec<u8>> {
    let mut array = Vec::new();
    for chunk in chunks {
        let before = array.len();
        let values = serde_json::Deserializer::from_slice(chunk).into_iter::<&RawValue>();
        for value in values {
            if let Ok(value) = value {
                put_element(&mut array, value.get());
            } else {
                array.truncate(before);
                put_element(&mut array, &string(&String::from_utf8_lossy(chunk)));
            }
        }
    }
    if array.is_empty() {
        return None;
    }
    array.push(b']');
    Some(array)
}

fn put_element(array: &mut Vec<u8>, json: &str) {
    array.push(if array.is_empty() { b'[' } else { b',' });
    array.extend_from_slice(json.as_bytes());
}

fn string(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(body: &str) -> Vec<String> {
        let messages = messages(body.as_bytes()).unwrap();
        messages.each().map(|message| String::from_utf8(message.to_vec()).unwrap()).collect()
    }

    #[test]
    fn an_array_is_flattened_by_one_level() {
        assert_eq!(split(r#"{"a": 1}"#), ["{\"a\":1}\n"]);
        assert_eq!(split("[[1, 2], [3],\n 4]"), ["[1,2]\n", "[3]\n", "4\n"]);
        assert_eq!(split(" [[[1,2,3]]] "), ["[[1,2,3]]\n"]);
        assert!(split("[ ]").is_empty());
    }

    #[test]
    fn a_message_keeps_its_strings_and_numbers_to_the_letter() {
        let message =
            r#"{"a b":"x \" \\","n":123456789012345678901234567890.10e+05,"u":"\ud83d \u00e4"}"#;
        assert_eq!(split(message), [format!("{message}\n")]);
    }

    #[test]
    fn a_body_that_is_not_json_is_refused() {
        for bad in ["", " ", "{", "[1,]", "{}{}", "nul", "'a'"] {
            assert!(messages(bad.as_bytes()).is_err(), "{bad:?}");
        }
        assert!(messages(b"\"\xff\"").is_err());
        assert!(messages(&[b'['; 100_000]).is_err(), "deep, and no end");
    }

    #[test]
    fn the_number_of_messages_in_a_body_is_limited() {
        let body = |count: usize| format!("[{}0]", "0,".repeat(count - 1));
        assert_eq!(messages(body(MAX_MESSAGES).as_bytes()).unwrap().count(), MAX_MESSAGES);
        assert!(matches!(messages(body(MAX_MESSAGES + 1).as_bytes()), Err(NoMessages::TooMany)));
    }

    #[test]
    fn chunks_of_other_protocols_become_json_messages() {
        let array = |chunks: &[&[u8]]| {
            array(chunks.iter().copied()).map(|array| String::from_utf8(array).unwrap())
        };
        assert_eq!(array(&[]), None);
        assert_eq!(array(&[b" \n"]), None);
        assert_eq!(array(&[b"1\n", b"{\"a\":2}\n{\"a\":3}\n"]).unwrap(), r#"[1,{"a":2},{"a":3}]"#);
        assert_eq!(
            array(&[b"1", b"no \"JSON\" \xff", b"[2]"]).unwrap(),
            "[1,\"no \\\"JSON\\\" \u{fffd}\",[2]]"
        );
    }
}
