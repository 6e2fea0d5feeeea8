//! Model of a round: the exit codes and outputs that are allowed for each reader and writer.

use std::{collections::BTreeSet, fmt};

use harness::{Direction, Gap};
use pfs_client::{SlowPolicy, Until};

use super::plan::{Break, Plan, ReaderKind, WriterKind};

/// Code of a client that cannot tell why it ended: stands for any exit code except 0.
pub(super) const BROKEN: i32 = -1;
/// Exit code that a shell reports for a killed process.
pub(super) const KILLED: i32 = 137;

/// Event that ended the stream for a reader or the writer. Facts are in the order in which
/// they happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fact {
    /// The stream was closed, by the writer at the end of its input or by another client.
    Closed,
    /// The stream was closed as failed.
    Failed,
    Removed,
    /// The writer finished and left the stream open.
    Finished,
    /// The writer died, or its command failed.
    WriterDied,
    ReaderKilled(usize),
    DaemonGone,
    Broken(Break),
}

/// Output and messages of a reader.
#[derive(Default)]
pub(super) struct Outcome {
    /// Exit code, or the code of a `cat` that would get the same message; [`BROKEN`] where that
    /// is unknown.
    pub(super) code: i32,
    /// Start offset; `None` if the reader was never attached.
    pub(super) start: Option<u64>,
    pub(super) bytes: Vec<u8>,
    pub(super) gaps: Vec<Gap>,
    /// Offset up to which the reader reported that it got everything.
    pub(super) said: Option<u64>,
    /// Whether the connection broke and was replaced.
    pub(super) resumed: bool,
    /// Printed when a check fails.
    pub(super) stderr: String,
}

impl fmt::Debug for Outcome {
    /// Prints the number of bytes, not the bytes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { code, start, bytes, gaps, said, resumed, stderr } = self;
        write!(
            f,
            "code {code}, {} bytes from {start:?} on, said {said:?}, resumed {resumed}, ",
            bytes.len()
        )?;
        write!(f, "{gaps:?}, stderr: {stderr}")
    }
}

/// Returns the codes with which a reader may end: the code of the first event that it was told, or
/// of a later event that overtook the first.
pub(super) fn reader_codes(
    plan: &Plan,
    number: usize,
    facts: &[Fact],
    lossy: bool,
) -> BTreeSet<i32> {
    let reader = &plan.readers[number];
    let proper = if lossy { 4 } else { 0 };
    let writers_gone = |code| (reader.until == Until::WritersGone).then_some(code);
    // Our own clients resume. The daemon continues to serve a plain GET after the client's
    // direction has ended.
    let broken = |how| match (reader.kind, how) {
        (ReaderKind::Curl | ReaderKind::Events, Break::Half(Direction::ToDaemon)) => None,
        (ReaderKind::Curl | ReaderKind::Events, _) => Some(BROKEN),
        (ReaderKind::Cat | ReaderKind::Library, Break::Gone) => Some(5),
        (ReaderKind::Cat | ReaderKind::Library, _) => None,
    };
    let code = |fact: &Fact| match *fact {
        Fact::Closed => Some(proper),
        Fact::Failed => Some(8),
        Fact::Removed => Some(7),
        Fact::Finished => writers_gone(proper),
        Fact::WriterDied => writers_gone(8),
        Fact::ReaderKilled(killed) => (killed == number).then_some(KILLED),
        Fact::DaemonGone => Some(5),
        Fact::Broken(how) => broken(how).filter(|_| reader.linked),
    };
    let mut codes: BTreeSet<i32> = facts.iter().filter_map(code).collect();
    if facts.iter().find_map(code) == Some(KILLED) && !plan.races {
        codes = [KILLED].into();
    }
    if reader.policy == SlowPolicy::Disconnect {
        codes.insert(6);
    }
    match reader.kind {
        // curl knows only whether the response was complete. A loss breaks its response.
        ReaderKind::Curl => {
            codes = codes
                .into_iter()
                .map(|code| if [0, KILLED].contains(&code) { code } else { BROKEN })
                .collect();
            if reader.policy == SlowPolicy::Drop {
                codes.insert(BROKEN);
            }
        }
        // A gap cannot be reported inside the event of a large chunk: the response breaks, and a
        // client that reconnects gets the report.
        ReaderKind::Events => {
            let breaks = [Fact::DaemonGone, Fact::Removed].iter().any(|fact| facts.contains(fact));
            if breaks || reader.policy != SlowPolicy::Block {
                codes.insert(BROKEN);
            }
        }
        ReaderKind::Cat | ReaderKind::Library => {}
    }
    codes
}

/// Returns the codes with which the writer may end.
pub(super) fn writer_codes(plan: &Plan, facts: &[Fact], killed: bool) -> BTreeSet<i32> {
    let writer = &plan.writer;
    let mut codes: BTreeSet<i32> =
        facts.iter().filter_map(|fact| writer_code(plan, *fact)).collect();
    if writer.kind == WriterKind::Curl && !codes.is_empty() {
        codes = [BROKEN].into();
    }
    if killed {
        codes.insert(KILLED);
    }
    // The writer has more to write at every blow. It ends by itself only if no blow affects it, or
    // if a blow races with its end.
    if codes.is_empty() || plan.races {
        codes.insert(if let WriterKind::Command(code) = writer.kind { code } else { 0 });
    }
    codes
}

/// Returns true if an event ends the writer before the end of its input.
pub(super) fn concerns_the_writer(plan: &Plan, facts: &[Fact]) -> bool {
    facts.iter().any(|fact| writer_code(plan, *fact).is_some())
}

fn writer_code(plan: &Plan, fact: Fact) -> Option<i32> {
    match fact {
        Fact::Closed | Fact::Failed => Some(9),
        Fact::Removed => Some(1),
        Fact::DaemonGone => Some(5),
        Fact::Broken(_) if plan.writer.linked => Some(5),
        Fact::Broken(_) | Fact::Finished | Fact::WriterDied | Fact::ReaderKilled(_) => None,
    }
}

/// Returns the offset up to which the reader got every byte that it did not report as lost. Returns
/// an error if it got anything else.
pub(super) fn delivered(data: &[u8], outcome: &Outcome) -> Result<u64, String> {
    let Some(start) = outcome.start else {
        let nothing = outcome.bytes.is_empty() && outcome.gaps.is_empty();
        return if nothing {
            Ok(0)
        } else {
            Err("it got something and was never attached".to_owned())
        };
    };
    let (mut position, mut rest) = (start, &outcome.bytes[..]);
    for gap in &outcome.gaps {
        let expected = data.get(position as usize..gap.from as usize);
        rest = expected
            .and_then(|expected| rest.strip_prefix(expected))
            .ok_or_else(|| format!("other bytes between {position} and the gap {gap:?}"))?;
        position = gap.to;
    }
    let left =
        data.get(position as usize..).ok_or_else(|| format!("{position} is beyond the end"))?;
    if !left.starts_with(rest) {
        let same = left.iter().zip(rest).take_while(|(expected, got)| expected == got).count();
        return Err(format!("{} bytes from {position} on, of which {same} are right", rest.len()));
    }
    position += rest.len() as u64;
    match outcome.said {
        Some(said) if said != position => {
            Err(format!("it said {said} and got all up to {position}"))
        }
        _ => Ok(position),
    }
}

/// Checks the outcome of a reader. `head` is the end of the stream, if that is known.
pub(super) fn check_reader(
    plan: &Plan,
    number: usize,
    facts: &[Fact],
    data: &[u8],
    head: Option<u64>,
    outcome: &Outcome,
) -> Result<(), String> {
    let reader = &plan.readers[number];
    let position = delivered(data, outcome)?;
    let lossy = !outcome.gaps.is_empty();
    if lossy && reader.policy != SlowPolicy::Drop && !outcome.resumed {
        return Err("only a drop reader may lose something".to_owned());
    }
    if outcome.resumed
        && !(reader.linked && facts.iter().any(|fact| matches!(fact, Fact::Broken(_))))
    {
        return Err("it resumed a connection that nothing broke".to_owned());
    }
    let allowed = reader_codes(plan, number, facts, lossy);
    if !allowed.contains(&outcome.code) {
        return Err(format!("it ended with {}, not with one of {allowed:?}", outcome.code));
    }
    match head {
        Some(head) if position > head => Err(format!("it got all up to {position}, beyond {head}")),
        // With these codes the reader claims that it got everything.
        Some(head) if [0, 4, 8].contains(&outcome.code) && position != head => {
            Err(format!("it ended with {} at {position}, before {head}", outcome.code))
        }
        _ => Ok(()),
    }
}
