//! Tests of tables with rows that are not peers.

use super::{latency, pipes, small, throughput};
use crate::{
    peers::Peer,
    report::{Machine, Metric, Results},
};

/// Results where all peers have the same values, and the ceilings have `ceiling`.
fn results(peers: &[Peer], metric: &'static Metric, columns: &[&str], ceiling: f64) -> Results {
    let mut results = Results::new("table", "Table", Machine::default());
    for column in columns {
        for peer in peers {
            results.add(metric, *peer, column, if peer.is_ceiling() { ceiling } else { 1.0 });
        }
    }
    results
}

#[test]
fn a_goal_against_the_best_of_all_is_never_against_a_ceiling() {
    type Table =
        (&'static [Peer], &'static Metric, &'static [&'static str], fn(&mut Results), usize);
    let tables: [Table; 4] = [
        (
            throughput::PEERS,
            &throughput::DELIVERED,
            &["N=1", "N=4", "N=16", "N=64"],
            throughput::goals,
            2,
        ),
        (
            small::PEERS,
            &small::RECORDS,
            &["N=1, one call each", "N=16, one call each", "N=1, batched", "N=16, batched"],
            small::goals,
            1,
        ),
        (
            latency::PEERS,
            &latency::LATENCY,
            &["N=1, p50", "N=1, p99", "N=16, p50", "N=16, p99"],
            latency::goals,
            2,
        ),
        (pipes::PEERS, &pipes::DELIVERED, &["N=1", "N=16"], pipes::goals, 1),
    ];
    for (peers, metric, columns, goals, ceilings) in tables {
        assert_eq!(
            peers.iter().filter(|peer| peer.is_ceiling()).count(),
            ceilings,
            "ceilings in {peers:?}"
        );
        // Better or worse than all others, whether more is good or less.
        for ceiling in [1e-6, 1e6] {
            let mut results = results(peers, metric, columns, ceiling);
            goals(&mut results);
            // Goals against a ceiling name a share of it.
            let (of_ceiling, others): (Vec<_>, Vec<_>) =
                results.goals.iter().partition(|goal| goal.against.contains("ceiling"));
            assert!(others.len() >= columns.len(), "a goal for each of {columns:?}");
            for goal in others {
                assert_eq!(
                    goal.reached.map(|it| it.median),
                    Some(1.0),
                    "{} against {}",
                    goal.text,
                    goal.against
                );
            }
            for goal in of_ceiling {
                assert_eq!(
                    goal.reached.map(|it| it.median),
                    Some(1.0 / ceiling),
                    "{} against {}",
                    goal.text,
                    goal.against
                );
            }
        }
    }
}

#[test]
fn latency_has_a_goal_against_the_best_server_and_one_against_tee() {
    let mut results = Results::new("table", "Table", Machine::default());
    for (peer, value) in
        [(Peer::PfsShm, 1.0), (Peer::Mosquitto, 1.0), (Peer::Nats, 2.0), (Peer::Tee, 0.5)]
    {
        results.add(&latency::LATENCY, peer, "N=1, p50", value);
    }
    latency::goals(&mut results);
    let reached: Vec<_> =
        results.goals.iter().map(|goal| goal.reached.map(|it| it.median)).collect();
    assert_eq!(reached[..2], [Some(1.0), Some(2.0)], "{:?}", results.goals);
}

#[test]
fn a_ceiling_says_so_in_its_name_and_no_peer_does() {
    use clap::ValueEnum;
    for peer in Peer::value_variants() {
        let says_so = ["", " of servers", " of sockets"]
            .iter()
            .any(|of| peer.name().ends_with(&format!("(the ceiling{of})")));
        assert_eq!(says_so, peer.is_ceiling(), "{}", peer.name());
        assert!(!(peer.is_ceiling() && peer.is_rival()), "{}", peer.name());
    }
}
