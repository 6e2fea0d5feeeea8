//! Mounts of other daemons' streams and their links, in the output of `pfs stat` and `pfs info` for
//! people.

use std::{cmp::Reverse, fmt::Write, time::SystemTime};

use pfs_proto::{HopStat, LinkStat, MountStat, escape};

use crate::{
    age::{since, span},
    printer::HEADING,
    size::{count, size},
    table::{Align, Table},
};

/// Maximum number of links that are shown: first those that are down, then those that lag most.
const SHOWN: usize = 10;

/// Formats a mount on the way to the owner of a stream.
pub(crate) fn hop(hop: &HopStat, now: SystemTime) -> String {
    let mut text = format!("{} of {}, {}", escape(&hop.mount), escape(&hop.owner), answer(hop));
    let Some(link) = &hop.link else { return text + "; not followed" };
    let _ = write!(
        text,
        "; link {} for {}, {}, lag {}, {}, {} lost, {} here",
        state(link),
        span(since(link.since, now)),
        link.policy,
        size(link.lag),
        count(link.reconnects, "reconnect"),
        size(link.lost_bytes),
        count(link.readers, "reader"),
    );
    text
}

/// Formats a mount with its links: first those that are down, then those that lag most.
pub(crate) fn mount(MountStat { hop, links }: &MountStat, now: SystemTime) -> String {
    let mut text = format!(
        "\n{HEADING}{}{HEADING:#} of {}\n  {:<11} {}\n  {:<11} {}, {}, {} lost\n",
        escape(&hop.mount),
        escape(&hop.owner),
        "owner",
        answer(hop),
        "links",
        links.len(),
        count(hop.reconnects, "reconnect"),
        size(hop.lost_bytes),
    );
    if links.is_empty() {
        return text;
    }
    let mut worst: Vec<_> = links.iter().collect();
    worst.sort_by_key(|(_, link)| (link.connected, Reverse(link.lag)));
    let mut table = Table::new(&[
        ("LINK", Align::Left),
        ("SINCE", Align::Right),
        ("POLICY", Align::Left),
        ("LAG", Align::Right),
        ("RECONNECTS", Align::Right),
        ("LOST", Align::Right),
        ("READERS", Align::Right),
        ("PATH", Align::Left),
    ]);
    for (path, link) in worst.into_iter().take(SHOWN) {
        table.row([
            state(link).to_owned(),
            span(since(link.since, now)),
            link.policy.to_string(),
            size(link.lag),
            link.reconnects.to_string(),
            size(link.lost_bytes),
            link.readers.to_string(),
            escape(path).into_owned(),
        ]);
    }
    text.push_str(&table.render("    "));
    if let Some(more) = links.len().checked_sub(SHOWN).filter(|more| *more > 0) {
        let _ = writeln!(text, "    and {more} more; pfs info --json shows all");
    }
    text
}

fn state(link: &LinkStat) -> &'static str {
    if link.connected { "up" } else { "down" }
}

fn answer(HopStat { round_trip, failure, .. }: &HopStat) -> String {
    match (round_trip, failure) {
        (Some(time), _) => format!("answers in {:.1} ms", time.as_secs_f64() * 1000.0),
        (None, Some(failure)) => format!("does not answer: {}", escape(failure)),
        (None, None) => "does not answer".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use anstream::adapter::strip_str;

    use super::*;
    use crate::sample;

    #[test]
    fn a_mount_is_shown_with_its_worst_links_first() {
        let mut sample = sample::mount();
        assert_eq!(
            strip_str(&mount(&sample, sample::now())).to_string(),
            "
/edge of http://camera:4437/streamfs
  owner       answers in 0.3 ms
  links       2, 3 reconnects, 64.0 KiB lost
    LINK  SINCE  POLICY      LAG  RECONNECTS      LOST  READERS  PATH
    down     5s  drop        0 B           0       0 B        0  /edge/mic
    up       1m  block   1.0 KiB           2  64.0 KiB       16  /edge/cam
"
        );
        let (_, good) = sample.links.remove(0);
        sample.links.extend((0..11).map(|number| (format!("/edge/{number}"), good)));
        sample.hop.round_trip = None;
        sample.hop.failure = Some("no daemon answers\u{7}".to_owned());
        let text = mount(&sample, sample::now());
        assert!(text.contains("does not answer: no daemon answers\\u{7}\n"), "{text}");
        assert!(text.contains("    and 2 more; pfs info"));
        assert!(text.contains("/edge/8") && !text.contains("/edge/9"), "{text}");
    }

    #[test]
    fn a_hop_says_whether_the_stream_is_followed_here() {
        let MountStat { hop: mut shown, links } = sample::mount();
        let text = hop(&shown, sample::now());
        assert_eq!(text, "/edge of http://camera:4437/streamfs, answers in 0.3 ms; not followed");
        shown.link = Some(links[0].1);
        assert_eq!(
            hop(&shown, sample::now()),
            "/edge of http://camera:4437/streamfs, answers in 0.3 ms; link up for 1m, block, lag 1.0 KiB, \
             2 reconnects, 64.0 KiB lost, 16 readers here"
        );
    }
}
