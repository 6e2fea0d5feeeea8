//! Parser for server-sent events, by the rules of browsers.

use serde_json::Value;

/// Event as an `EventSource` delivers it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerSentEvent {
    /// Event type.
    pub name: String,
    /// Event id, if the block has one.
    pub id: Option<String>,
    /// Data lines, without the last line end.
    pub data: String,
}

impl ServerSentEvent {
    /// Parses a block, without the empty line that ends it. Also returns whether the block has
    /// data. A block without data is not an event, but its id still counts.
    ///
    /// # Panics
    ///
    /// Panics if the block has an unknown field.
    #[track_caller]
    pub fn parse(block: &str) -> (Self, bool) {
        let mut event = Self { name: "message".to_owned(), id: None, data: String::new() };
        let mut lines = 0;
        for line in block.split('\n').filter(|line| !line.starts_with(':') && !line.is_empty()) {
            let (field, value) = line.split_once(':').unwrap_or((line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "event" => event.name = value.to_owned(),
                "id" => event.id = Some(value.to_owned()),
                "data" => {
                    lines += 1;
                    event.data.push_str(value);
                    event.data.push('\n');
                }
                _ => panic!("an unknown field: {line:?}"),
            }
        }
        event.data.pop();
        (event, lines > 0)
    }

    /// Returns the data as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.data).unwrap_or_else(|e| panic!("{e} in {:?}", self.data))
    }

    /// Returns the stream identity in the id.
    #[track_caller]
    pub fn identity(&self) -> Option<&str> {
        Some(self.id.as_deref()?.split_once(':').expect("an identity and an offset").0)
    }

    /// Returns the offset in the id.
    #[track_caller]
    pub fn offset(&self) -> Option<u64> {
        let (_, offset) = self.id.as_deref()?.split_once(':').expect("an identity and an offset");
        Some(offset.parse().expect("an offset"))
    }
}
