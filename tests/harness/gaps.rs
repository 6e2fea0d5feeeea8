//! Parser for the gap lines that `pfs cat` prints on stderr.

/// A reported gap: the half-open range `from..to`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    /// First lost offset.
    pub from: u64,
    /// Offset after the last lost one.
    pub to: u64,
    /// Number of lost chunks; `None` where that number is no longer known.
    pub chunks: Option<u64>,
    /// Path of the stream.
    pub path: String,
}

/// Parses all gaps in the stderr of a run, in order. Panics if a gap line does not have the
/// documented form, if its numbers contradict each other, or if gaps overlap or go backwards.
#[track_caller]
pub fn gaps(stderr: &str) -> Vec<Gap> {
    let mut gaps: Vec<Gap> = Vec::new();
    for line in stderr.lines().filter(|line| line.contains("gap:")) {
        let gap = parse(line).unwrap_or_else(|| panic!("a gap line of an unknown form: {line:?}"));
        let before = gaps.last().map_or(0, |gap| gap.to);
        assert!(
            gap.from >= before,
            "this gap begins before the last one ended, at {before}: {line:?}"
        );
        gaps.push(gap);
    }
    gaps
}

/// Returns `bytes` from offset `start` on, without the ranges in `gaps`.
#[track_caller]
pub fn kept(bytes: &[u8], start: u64, gaps: &[Gap]) -> Vec<u8> {
    let mut kept = Vec::with_capacity(bytes.len());
    let mut position = start as usize;
    for gap in gaps {
        kept.extend_from_slice(&bytes[position..gap.from as usize]);
        position = gap.to as usize;
    }
    kept.extend_from_slice(&bytes[position..]);
    kept
}

/// Parses `pfs: gap: lost bytes FROM..TO (N bytes, M chunks) of PATH`. The number of chunks is
/// absent where it is not known.
fn parse(line: &str) -> Option<Gap> {
    let rest = line.strip_prefix("pfs: gap: lost bytes ")?;
    let (range, rest) = rest.split_once(" (")?;
    let (stats, path) = rest.split_once(") of ")?;
    let (from, to) = range.split_once("..")?;
    let (bytes, chunks) =
        stats.split_once(", ").map_or((stats, None), |(bytes, chunks)| (bytes, Some(chunks)));
    let from: u64 = from.parse().ok()?;
    let to: u64 = to.parse().ok()?;
    let bytes: u64 = bytes.strip_suffix(" bytes").or(bytes.strip_suffix(" byte"))?.parse().ok()?;
    let chunks = match chunks {
        Some(chunks) => Some(
            chunks
                .strip_suffix(" chunks")
                .or(chunks.strip_suffix(" chunk"))?
                .parse::<u64>()
                .ok()?,
        ),
        None => None,
    };
    let adds_up = from < to && bytes == to - from && chunks != Some(0);
    adds_up.then(|| Gap { from, to, chunks, path: path.to_owned() })
}
