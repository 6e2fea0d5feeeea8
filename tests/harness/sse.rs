//! Server-sent events, by the rules by which browsers read them.

use serde_json::Value;

/// An event, as an `EventSource` would hand it over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerSentEvent {
    /// The type of the event.
    pub name: String,
    /// Its id, if it has one of its own.
    pub id: Option<String>,
    /// Its lines, without the last line end.
    pub data: String,
}

impl ServerSentEvent {
    /// A block, which an empty line ends, and whether it is an event: a block without data is none,
    /// and its id counts.
    ///
    /// # Panics
    ///
    /// The block has a field that nobody knows.
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

    /// The data as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.data).unwrap_or_else(|e| panic!("{e} in {:?}", self.data))
    }

    /// Which stream its id names.
    #[track_caller]
    pub fn identity(&self) -> Option<&str> {
        Some(self.id.as_deref()?.split_once(':').expect("an identity and an offset").0)
    }

    /// Which offset its id names.
    #[track_caller]
    pub fn offset(&self) -> Option<u64> {
        let (_, offset) = self.id.as_deref()?.split_once(':').expect("an identity and an offset");
        Some(offset.parse().expect("an offset"))
    }
}
