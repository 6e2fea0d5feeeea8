//! Suggestions in usage errors: keeps only names that are close to the typed word.

use clap::{
    Error,
    error::{ContextKind, ContextValue},
};

/// Removes misleading suggestions. clap suggests every name that shares some letters (`--color` for
/// `--follow`), and suggests to pass an unknown flag as a value, which no command of `pfs` takes.
pub(crate) fn without_false_ones(mut error: Error) -> Error {
    for (typed, suggested) in [
        (ContextKind::InvalidArg, ContextKind::SuggestedArg),
        (ContextKind::InvalidSubcommand, ContextKind::SuggestedSubcommand),
        (ContextKind::InvalidValue, ContextKind::SuggestedValue),
    ] {
        let Some(ContextValue::String(typed)) = error.get(typed) else { continue };
        let is_close = |name: &String| is_close(typed, name);
        let kept = match error.get(suggested) {
            Some(ContextValue::String(name)) if !is_close(name) => None,
            Some(ContextValue::Strings(names)) => {
                let close: Vec<String> =
                    names.iter().filter(|name| is_close(name)).cloned().collect();
                (!close.is_empty()).then_some(ContextValue::Strings(close))
            }
            _ => continue,
        };
        match kept {
            Some(close) => error.insert(suggested, close),
            None => {
                // The usage line would show the suggested flag as if it had been typed.
                error.remove(ContextKind::Usage);
                error.remove(suggested)
            }
        };
    }
    if let Some(ContextValue::StyledStrs(tips)) = error.remove(ContextKind::Suggested) {
        let about_other_commands: Vec<_> =
            tips.into_iter().filter(|tip| !tip.to_string().starts_with("to pass '")).collect();
        // For an empty list, clap would print an empty line.
        if !about_other_commands.is_empty() {
            error.insert(ContextKind::Suggested, ContextValue::StyledStrs(about_other_commands));
        }
    }
    error
}

/// Commands of other programs that are one letter away from a `pfs` command with another meaning.
const OTHER_WORDS: [&str; 2] = ["start", "top"];

/// Returns true if one name is a misspelling of the other: at most one edit per three characters.
fn is_close(typed: &str, name: &str) -> bool {
    let (typed, name) = (typed.trim_start_matches('-'), name.trim_start_matches('-'));
    if OTHER_WORDS.contains(&typed) {
        return false;
    }
    let edits = strsim::damerau_levenshtein(typed, name);
    edits.saturating_mul(3) <= typed.chars().count().max(name.chars().count())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::Cli;

    fn message(line: &str) -> String {
        without_false_ones(Cli::try_parse_from(line.split(' ')).unwrap_err()).to_string()
    }

    #[test]
    fn a_misspelling_gets_a_suggestion() {
        for (line, tip) in [
            ("pfs wrtie /streamfs/x", "'write'"),
            ("pfs cat --strem /streamfs/x", "'--stream'"),
            ("pfs cat --untill closed /streamfs/x", "'--until'"),
            ("pfs cat --slow dropp /streamfs/x", "'drop'"),
        ] {
            let message = message(line);
            assert!(message.contains("tip: ") && message.contains(tip), "{line}: {message}");
        }
    }

    #[test]
    fn unrelated_words_get_no_suggestion() {
        for line in [
            "pfs ls --follow",
            "pfs cat -n 10 /streamfs/x",
            "pfs cat --lines 5 /streamfs/x",
            "pfs logs /streamfs/x",
            "pfs shutdown",
            "pfs start",
            "pfs top",
        ] {
            let message = message(line);
            assert!(!message.contains("tip:") && !message.contains("--color"), "{line}: {message}");
            assert!(!message.contains("\n\n\n"), "{line}: {message:?}");
        }
    }
}
