//! Unprintable characters, which act on the text around them: control characters (Unicode category
//! Cc), format characters (Cf: bidirectional overrides, zero-width and invisible characters), and
//! line and paragraph separators (Zl, Zp).
//!
//! Stream names may not contain unprintable characters, because two different names could look
//! alike. Text from a peer may contain them and must be [escaped](escape) before it is shown:
//! terminals obey some of them.

use std::{borrow::Cow, fmt::Write as _};

use unicode_properties::{GeneralCategory, UnicodeGeneralCategory};

/// Returns true if a character acts on text and is not shown. Blanks are shown.
fn is_unprintable(c: char) -> bool {
    // Fast path: nearly all characters are ASCII and need no table look-up.
    if c.is_ascii() {
        return c.is_ascii_control();
    }
    matches!(
        c.general_category(),
        GeneralCategory::Control
            | GeneralCategory::Format
            | GeneralCategory::LineSeparator
            | GeneralCategory::ParagraphSeparator
    )
}

/// An unprintable character in a text, and its position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Unprintable {
    /// The character.
    pub character: char,
    /// Position of the character, counted in characters from 1.
    pub position: usize,
}

impl Unprintable {
    /// Finds the first unprintable character of a text.
    ///
    /// ```
    /// let found = pfs_proto::Unprintable::find("cam\u{202e}4pm").ok_or("all is printable")?;
    /// assert_eq!((found.character, found.position), ('\u{202e}', 4));
    /// assert_eq!(found.to_string(), "character 4 is U+202E, a control or format character");
    /// # Ok::<(), &str>(())
    /// ```
    pub fn find(text: &str) -> Option<Self> {
        let position = text.chars().position(is_unprintable)?;
        let character = text.chars().nth(position)?;
        Some(Self { character, position: position.saturating_add(1) })
    }
}

impl std::fmt::Display for Unprintable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { character, position } = *self;
        write!(
            f,
            "character {position} is U+{:04X}, a control or format character",
            u32::from(character)
        )
    }
}

/// Escapes unprintable characters like Rust (`\n`, `\u{1b}`), so that a terminal can show the text
/// in one line.
///
/// ```
/// assert_eq!(pfs_proto::escape("späße ☂\u{1b}[2J\n"), r"späße ☂\u{1b}[2J\n");
/// ```
pub fn escape(text: &str) -> Cow<'_, str> {
    escape_with(text, |escaped, c| escaped.extend(c.escape_default()))
}

/// Escapes the unprintable characters in JSON (`\u202e`), all of which are inside strings. JSON
/// serializers leave characters beyond ASCII unescaped, and terminals obey some of them.
///
/// ```
/// assert_eq!(pfs_proto::escape_json(r#"{"path":"/streamfs/späße"}"#), r#"{"path":"/streamfs/späße"}"#);
/// assert_eq!(pfs_proto::escape_json("\"\u{9b}31m\u{e0001}\""), r#""\u009b31m\udb40\udc01""#);
/// ```
pub fn escape_json(json: &str) -> Cow<'_, str> {
    escape_with(json, |escaped, c| {
        for unit in c.encode_utf16(&mut [0; 2]) {
            // Writing to a string cannot fail.
            let _ = write!(escaped, "\\u{unit:04x}");
        }
    })
}

fn escape_with(text: &str, append: impl Fn(&mut String, char)) -> Cow<'_, str> {
    if !text.chars().any(is_unprintable) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if is_unprintable(c) {
            append(&mut escaped, c);
        } else {
            escaped.push(c);
        }
    }
    Cow::Owned(escaped)
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::{collection::vec, prelude::*, sample::select};

    use super::*;

    #[test]
    fn control_and_format_characters_are_unprintable_but_letters_blanks_marks_and_emoji_are_not() {
        let acting = "\0\n\u{1b}\u{7f}\u{85}\u{9b}\u{ad}\u{61c}\u{200b}\u{200d}\u{200e}\u{202a}\u{202e}\u{2028}\u{2029}\u{2060}\
                      \u{2066}\u{2069}\u{feff}\u{fff9}\u{e0001}\u{e007f}";
        for c in acting.chars() {
            assert!(is_unprintable(c), "{c:?}");
        }
        for c in " a\\\"'~äßжשع本😀☂\u{301}\u{a0}\u{3000}\u{fe0f}\u{e000}".chars() {
            assert!(!is_unprintable(c), "{c:?}");
        }
    }

    #[test]
    fn the_first_unprintable_character_is_found_with_its_position_in_characters() {
        assert_eq!(Unprintable::find("/streamfs/späße"), None);
        let found = Unprintable::find("ä☂\u{1}\u{2}").unwrap();
        assert_eq!(found, Unprintable { character: '\u{1}', position: 3 });
        assert!(found.to_string().contains("U+0001"), "{found}");
    }

    /// Random text; a fifth of the characters are unprintable.
    pub(crate) fn text() -> impl Strategy<Value = String> {
        let acting = select(vec![
            '\0',
            '\n',
            '\u{1b}',
            '\u{9b}',
            '\u{200b}',
            '\u{202e}',
            '\u{2028}',
            '\u{e0001}',
        ]);
        let character = prop_oneof![6 => prop::char::range('a', 'z'), 2 => any::<char>(), 2 => acting, 1 => Just(' ')];
        vec(character, 0..12).prop_map(String::from_iter)
    }

    proptest! {
        #[test]
        fn nothing_unprintable_is_left_in_what_was_escaped_and_nothing_else_is_changed(text in text()) {
            let escaped = escape(&text);
            prop_assert_eq!(Unprintable::find(&escaped), None);
            prop_assert_eq!(escaped == text, Unprintable::find(&text).is_none());
            let kept: String = text.chars().filter(|c| !is_unprintable(*c)).collect();
            let mut rest = escaped.chars();
            prop_assert!(kept.chars().all(|c| rest.any(|other| other == c)));
        }
    }
}
