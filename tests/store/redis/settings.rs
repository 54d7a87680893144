//! What Redis is set to, who may come in, and what is said of it.

use pileway::store::redis::{Config, Durability, Mode, Redis, Version};
use pileway::store::{Store, StoreError};

use crate::common::{claim, pile};
use crate::servers;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_keeps_its_word_is_called_safe() {
    let server = servers::Redis::with(&["appendfsync always"]);
    let store = Redis::open(Config::new(server.url())).await.expect("starts");
    let report = store.report().expect("it answered");
    assert!(report.version >= Version::OLDEST);
    assert_eq!((report.mode, report.partitions, report.safe), (Mode::Standalone, 64, Ok(())));
    let settings = [report.appendonly, report.appendfsync, report.maxmemory_policy].map(Option::unwrap_or_default);
    assert_eq!(settings, ["yes", "always", "noeviction"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_loses_writes_is_used_and_reported() {
    let server = servers::Redis::with(&["appendonly no", "maxmemory-policy allkeys-lru"]);
    // Where the settings can be read, nobody's word counts more.
    let config = Config { durability: Durability::Asserted, ..Config::new(server.url()) };
    let store = Redis::open(config).await.expect("starts");
    let reasons = store.report().expect("it answered").safe.expect_err("is not safe");
    assert!(reasons[0].contains("appendonly is no") && reasons[1].contains("allkeys-lru"), "{reasons:?}");
    store.claim(claim(pile(1), 1, 1)).await.expect("it is a store all the same");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_that_may_not_be_read_are_unsafe_unless_somebody_vouches_for_them() {
    let server = servers::Redis::with(&["user node on >p@ss ~pw:* &pw:* +@all -config"]);
    let url = server.url().replace("//", "//node:p%40ss@");
    let store = Redis::open(Config::new(&url)).await.expect("starts");
    let reasons = store.report().expect("it answered").safe.expect_err("is not known to be safe");
    assert!(matches!(&*reasons, [only] if only.contains("CONFIG may not be read")), "{reasons:?}");
    store.claim(claim(pile(1), 1, 1)).await.expect("claims");

    let store = Redis::open(Config { durability: Durability::Asserted, ..Config::new(url) }).await.expect("starts");
    let report = store.report().expect("it answered");
    assert_eq!((report.safe, report.appendonly), (Ok(()), None));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_who_may_not_write_all_of_it_writes_nothing() {
    let server = servers::Redis::with(&["user node on >secret ~pw:* &pw:* +@all -xadd"]);
    let url = server.url().replace("//", "//node:secret@");
    let store = Redis::open(Config::new(url)).await.expect("starts");
    assert!(store.health().is_err_and(|error| error.to_string().contains("(XADD)")), "{:?}", store.health());
    let refused = store.claim(claim(pile(1), 1, 1)).await;
    assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
    assert_eq!(server.cli::<Vec<String>>(&["KEYS", "pw:*:o:*"]), [""; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_password_is_said_and_not_shown() {
    let server = servers::Redis::with(&["user node on >right ~* &* +@all"]);
    let store = Redis::open(Config::new(server.url().replace("//", "//node:wrong@"))).await.expect("starts");
    let error = store.health().expect_err("may not come in").to_string();
    assert!(error.to_lowercase().contains("auth") && !error.contains(":wrong"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_needs_an_authority_to_trust() {
    let server = servers::Redis::with_tls();
    let trusting = Config { ca_file: Some(server.ca_file()), ..Config::new(server.url()) };
    let store = Redis::open(trusting.clone()).await.expect("starts");
    assert_eq!(store.health(), Ok(()));
    store.claim(claim(pile(1), 1, 1)).await.expect("claims");
    let mut watch = store.feed();
    crate::redis_store::append_one(&store, pile(1), 1).await.expect("commits");
    assert!(watch.recv().await.is_ok());

    let store = Redis::open(Config { ca_file: None, ..trusting.clone() }).await.expect("starts");
    assert!(store.health().is_err_and(|error| error.to_string().contains("certificate")), "{:?}", store.health());
    let nowhere = Config { ca_file: Some("no/such/file".into()), ..trusting };
    let error = Redis::open(nowhere).await.err().expect("is refused").to_string();
    assert!(error.contains("no/such/file"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_that_make_no_sense_are_refused() {
    let refusal = async |config| Redis::open(config).await.err().expect("is refused").to_string();
    let config = Config::new("redis://me:secret@127.0.0.1");
    assert!(refusal(Config { partitions: 0, ..config.clone() }).await.contains("partitions = 0"));
    assert!(refusal(Config { prefix: "a{b}".to_owned(), ..config }).await.contains("braces"));
    let error = refusal(Config::new("redis://me:secret@")).await;
    assert!(error.contains("a host is missing") && !error.contains("secret"), "{error}");
}
