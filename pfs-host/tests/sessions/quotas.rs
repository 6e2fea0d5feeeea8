//! Quotas of users and tokens: which owner a stream is charged to, and what a client beyond its
//! quota is told.

use std::time::SystemTime;

use pfs_host::{Caller, Daemon, Failure, Owner, Permissions, Settings, TokenId, mount::First};
use pfs_proto::{CreateOptions, ErrorCode, IfExists, Peer, StreamPath};
use pfs_stream::Limits;

const ONE_STREAM: Limits = Limits { max_streams: 1, ..Limits::UNLIMITED };

fn settings(user_quota: Limits, token_quota: Limits) -> Settings {
    Settings { user_quota, token_quota, ..Settings::default() }
}

fn daemon(user_quota: Limits, token_quota: Limits) -> Daemon {
    Daemon::new(&settings(user_quota, token_quota))
}

fn caller(owner: Owner) -> Caller {
    let (peer, permissions) = (Peer::default(), Permissions::all());
    Caller { peer, remote: None, owner, permissions, transport: "unix" }
}

fn token(number: u8) -> Owner {
    Owner::Token(TokenId::new([number; 32]))
}

fn path(name: &str) -> StreamPath {
    format!("/streamfs/{name}").parse().unwrap()
}

/// Options of a stream that needs little memory.
fn small() -> CreateOptions {
    let size = Some(4096);
    CreateOptions { ring_buffer_size: size, channel_buffer_size: size, ..CreateOptions::default() }
}

async fn create(daemon: &Daemon, owner: Owner, name: &str) -> Result<(), Failure> {
    daemon.writable(&caller(owner), &path(name))?.create(small()).await.map(|_| ())
}

async fn remove(daemon: &Daemon, owner: Owner, name: &str) {
    let caller = caller(owner);
    let place = daemon.writable(&caller, &path(name)).unwrap();
    place.remove(&place.existing().await.unwrap()).await.unwrap();
}

#[tokio::test]
async fn each_user_and_each_token_has_a_quota_of_its_own_and_anonymous_clients_have_none() {
    let daemon = daemon(ONE_STREAM, ONE_STREAM);
    let owners =
        [Owner::User(Some(0)), Owner::User(Some(1)), Owner::User(None), token(0), token(1)];
    for (number, owner) in owners.into_iter().enumerate() {
        create(&daemon, owner, &number.to_string()).await.unwrap();
        let refused = create(&daemon, owner, "more").await.unwrap_err();
        assert_eq!(refused.code, ErrorCode::Limit);
        assert!(refused.message.contains(&format!("for {owner}: ")), "{}", refused.message);
    }
    for name in ["a", "b"] {
        create(&daemon, Owner::Anonymous, name).await.unwrap();
    }
    // The creator has room again, no matter which client removed the stream.
    remove(&daemon, owners[1], "0").await;
    assert!(create(&daemon, owners[1], "0").await.is_err());
    create(&daemon, owners[0], "0").await.unwrap();
}

#[tokio::test]
async fn a_quota_refusal_names_the_owner_the_use_the_quota_and_the_configuration_key() {
    let memory = Limits { max_memory: 1024 * 1024, ..Limits::UNLIMITED };
    let large = CreateOptions {
        ring_buffer_size: Some(1024 * 1024),
        reserve: true,
        ..CreateOptions::default()
    };
    for (limits, owner, words) in [
        (
            ONE_STREAM,
            Owner::User(Some(7)),
            [
                "for user 7: 1 of the 1 streams that the quota allows are taken",
                "limits.max_streams_per_user",
            ],
        ),
        (
            ONE_STREAM,
            token(7),
            [
                "for this token: 1 of the 1 streams that the quota allows",
                "limits.max_streams_per_token",
            ],
        ),
        (
            memory,
            Owner::User(Some(7)),
            ["of the 1048576 bytes that the quota", "limits.max_memory_per_user"],
        ),
        (
            memory,
            token(7),
            ["of the 1048576 bytes that the quota allows", "limits.max_memory_per_token"],
        ),
    ] {
        let daemon = daemon(limits, limits);
        create(&daemon, owner, "small").await.unwrap();
        let caller = caller(owner);
        let place = daemon.writable(&caller, &path("large")).unwrap();
        let refused = place.create(large.clone()).await.unwrap_err();
        assert_eq!(refused.code, ErrorCode::Limit);
        for word in ["cannot create /streamfs/large for ", "pfs rm"].into_iter().chain(words) {
            assert!(refused.message.contains(word), "{word:?} is not in: {}", refused.message);
        }
    }
}

#[tokio::test]
async fn a_stream_is_charged_to_its_creator_however_it_is_created() {
    let (one, other) = (Owner::User(Some(1)), Owner::User(Some(2)));
    let keep = CreateOptions { if_exists: IfExists::Keep, ..small() };
    let replace = CreateOptions { if_exists: IfExists::Replace, ..small() };
    let first = First { chunks: &[b"first"], close: true };
    for way in 0..6 {
        let daemon = daemon(ONE_STREAM, ONE_STREAM);
        let caller = caller(one);
        let place = daemon.writable(&caller, &path("s")).unwrap();
        match way {
            0 => place.create(small()).await.map(|_| ()),
            1 => place.create(keep.clone()).await.map(|_| ()),
            2 => place.create_with(small(), Some(SystemTime::now()), first).await.map(|_| ()),
            3 => place.open_or_create_with(CreateOptions::default()).await.map(|_| ()),
            4 => place.open_or_create_with(small()).await.map(|_| ()),
            _ => {
                create(&daemon, other, "s").await.unwrap();
                place.create(replace.clone()).await.map(|_| ())
            }
        }
        .unwrap();
        assert!(create(&daemon, one, "t").await.is_err(), "way {way}");
        create(&daemon, other, "t").await.unwrap();
        // With a full quota, an owner can replace its own stream but not another owner's.
        assert!(
            daemon.writable(&caller, &path("t")).unwrap().create(replace.clone()).await.is_err()
        );
        place.create(replace.clone()).await.unwrap();
        assert_eq!(daemon.registry().len(), 2);
    }
}

#[tokio::test]
async fn writing_to_a_stream_of_another_owner_charges_nothing() {
    let daemon = daemon(ONE_STREAM, ONE_STREAM);
    create(&daemon, token(1), "s").await.unwrap();
    let other = caller(token(2));
    let place = daemon.writable(&other, &path("s")).unwrap();
    let (stream, _) = place.open_or_create_with(CreateOptions::default()).await.unwrap();
    place.append(&stream).await.unwrap().finish(false);
    create(&daemon, token(2), "t").await.unwrap();
}

#[tokio::test]
async fn quotas_that_are_set_later_count_existing_streams_and_keep_them() {
    let daemon = daemon(Limits::UNLIMITED, Limits::UNLIMITED);
    for owner in [Owner::User(Some(1)), token(1)] {
        for name in ["a", "b"] {
            create(&daemon, owner, &format!("{owner:?}/{name}")).await.unwrap();
        }
    }
    daemon.set_limits(&settings(Limits { max_streams: 2, ..Limits::UNLIMITED }, ONE_STREAM));
    let refused = create(&daemon, Owner::User(Some(1)), "more").await.unwrap_err();
    assert!(
        refused.message.contains("2 of the 2 streams that the quota allows"),
        "{}",
        refused.message
    );
    let refused = create(&daemon, token(1), "more").await.unwrap_err();
    assert!(
        refused.message.contains("2 of the 1 streams that the quota allows"),
        "{}",
        refused.message
    );
    assert_eq!(daemon.registry().len(), 4);
    daemon.set_limits(&settings(Limits { max_streams: 3, ..Limits::UNLIMITED }, ONE_STREAM));
    create(&daemon, Owner::User(Some(1)), "more").await.unwrap();
}
