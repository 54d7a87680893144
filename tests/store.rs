//! The store's contract as a suite, and the embedded store and Redis behind it.
//!
//! `contract.rs` and `ownership.rs` speak to the `Store` trait, `ledger.rs` to the typed door; each test gets a fresh, empty
//! store. Another implementation is another `all!` with its own `fresh`: `redis.rs` has two.

#[path = "store/common.rs"]
mod common;
#[path = "store/contract.rs"]
mod contract;
#[path = "store/ownership.rs"]
mod ownership;
#[path = "store/ledger.rs"]
mod ledger;
#[path = "store/curves.rs"]
mod curves;
#[path = "store/groups.rs"]
mod groups;

/// One test per name: a fresh store, then the function of that name.
macro_rules! suite {
    ($module:ident on $fresh:path: $($test:ident)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                let fresh: crate::common::Fresh = $fresh().await;
                crate::$module::$test(fresh.store.clone()).await;
            }
        )*
    };
}

/// The one list of what a store has to pass.
macro_rules! all {
    ($fresh:path) => {
        mod contract {
            suite! { contract on $fresh:
                a_batch_is_all_or_nothing
                preconditions_tell_what_is_there_instead
                versions_count_puts
                a_fence_holds_only_for_the_exact_owner
                the_same_batch_again_returns_the_stored_result
                a_refused_batch_leaves_no_trace_of_its_id
                a_claim_takes_the_pile_and_names_the_previous_owner
                the_same_session_claiming_again_gets_the_same_answer
                epochs_never_go_back
                a_claim_brings_the_open_orders
                a_login_stays_cheap_with_many_open_orders
                only_the_exact_owner_releases
                a_record_settles_once
                a_conflicting_record_is_kept_once
                a_settlement_needs_no_owner_but_the_right_order
                a_stale_order_write_cannot_undo_a_settlement
                a_put_replaces_all_index_entries
                scans_have_bounds_and_directions
                the_log_has_no_gaps
                a_slow_reader_of_the_feed_loses_nothing
                the_feed_tells_only_what_is_durable
                expiry_takes_what_is_due_and_no_more
                a_record_that_is_due_shrinks_to_what_tells_a_copy_and_goes_with_its_conflicts
                bounds_are_refused
                concurrent_writers_each_get_their_own_answer
            }
        }

        mod ownership {
            suite! { ownership on $fresh:
                a_session_that_says_again_that_it_is_there_keeps_its_fence
                what_the_store_has_forgotten_is_claimed_again_with_a_higher_epoch
                after_a_loss_of_writes_the_epoch_goes_up_so_that_no_event_repeats_a_number
                a_session_cannot_say_that_it_is_there_once_a_newer_one_was
                a_login_that_is_sent_twice_does_not_take_the_pile_back
                a_reassertion_that_is_sent_twice_gets_the_same_answer
                a_pile_code_used_by_two_devices_stops_going_back_and_forth
                what_ended_runs_have_left_is_found_in_pieces_and_nothing_else
                runs_are_known_while_they_renew_their_lease
                the_lineage_names_every_partition_and_stays_what_it_is
            }
        }

        mod groups {
            suite! { groups on $fresh:
                documents_may_belong_to_no_pile
                a_log_is_trimmed_from_its_beginning_and_never_whole
                a_reader_goes_on_where_it_was_and_is_told_what_is_missing
                a_place_in_the_log_is_found_by_its_time
            }
        }

        mod ledger {
            suite! { ledger on $fresh:
                a_write_goes_together_and_returns_versions
                a_write_with_attributes_again_returns_the_stored_result
                a_write_conflict_names_the_document_and_what_is_stored
                a_write_of_a_session_that_is_over_is_fenced
                a_login_brings_pile_and_open_orders
                a_record_settles_its_order
                a_record_of_an_unknown_serial_makes_an_adopted_order
                a_settlement_merges_with_what_was_written_meanwhile
                a_settled_order_is_not_unsettled_by_a_write_that_happens_to_know_its_version
                a_conflicting_record_is_kept_and_flagged_once
                a_record_that_differs_each_time_does_not_fill_the_store
                many_copies_at_once_settle_once
                a_start_attempt_is_found_by_its_request
                piles_are_listed_by_code_over_all_partitions
                orders_are_listed_newest_first
                orders_of_one_pile_come_in_pages_of_any_size
                a_page_token_belongs_to_its_query
                orders_that_are_over_expire_when_they_are_configured_to
                a_late_copy_is_known_by_the_tombstone_and_the_order_is_not_made_again
                a_record_that_comes_weeks_late_settles_an_adopted_order
                a_watch_tells_everything_from_its_call_on
                a_watch_that_lags_goes_on_from_the_log
            }
        }

        mod curves {
            suite! { curves on $fresh:
                a_curve_is_read_in_order_and_only_that_of_its_charge
                only_the_owner_stores_under_a_fence
                chunks_of_a_curve_expire_one_by_one
            }
        }
    };
}

#[path = "common/redis.rs"]
mod servers;
#[path = "store/redis.rs"]
mod redis_store;

mod embedded {
    use std::sync::Arc;

    use pileway::store::Store;
    use pileway::store::embedded::{Config, Embedded, OpenError};

    use crate::common::{Fresh, batch, key, pile, put};

    all! { super::fresh }

    /// A feed of 16 entries, so that falling behind is easy.
    #[allow(clippy::unused_async, reason = "a store behind a network is not made without waiting")]
    async fn fresh() -> Fresh {
        let dir = tempfile::tempdir().expect("a directory");
        let config = Config { feed: 16, ..Config::new(dir.path()) };
        let store = Embedded::open(config).expect("a new store");
        Fresh { store: Arc::new(store), _keep: Box::new(dir) }
    }

    #[tokio::test]
    async fn reopening_keeps_everything() {
        let dir = tempfile::tempdir().expect("a directory");
        let pile = pile(1);
        for round in 1..=3 {
            let store = Embedded::open(Config::new(dir.path())).expect("opens");
            let before = store.get(key(pile, "a")).await.expect("reads");
            assert_eq!(before.map_or(0, |stored| stored.version), round - 1);
            let partition = crate::common::partition(&store, pile);
            assert_eq!(store.log_end(partition).await.expect("reads"), round - 1);

            let mut batch = batch(1, round);
            batch.put.push(put(pile, "a", &format!("round {round}")));
            batch.append.push(crate::common::append(pile, "event"));
            let committed = store.commit(partition, batch.clone()).await.expect("commits");
            assert_eq!((committed.versions[0], committed.offsets[0]), (round, round));
            drop(store);

            let store = Embedded::open(Config::new(dir.path())).expect("opens");
            assert_eq!(store.commit(partition, batch).await, Ok(committed), "batch ids survive as well");
        }
    }

    #[tokio::test]
    async fn close_carries_out_what_waits_and_refuses_the_rest() {
        let dir = tempfile::tempdir().expect("a directory");
        let store = Arc::new(Embedded::open(Config::new(dir.path())).expect("opens"));
        let pile = pile(1);
        let partition = crate::common::partition(&*store, pile);
        let writes = (1..=50).map(|n| {
            let mut batch = batch(n, 1);
            batch.put.push(put(pile, &n.to_string(), "x"));
            store.commit(partition, batch)
        });
        // Queued in order, so all of them are before the close.
        let (written, ()) = tokio::join!(futures_util::future::join_all(writes), store.close());
        assert!(written.iter().all(Result::is_ok), "{written:?}");
        let late = store.release(pile, crate::common::fence(1, 1)).await;
        assert!(matches!(late, Err(pileway::store::StoreError::Unavailable(_))), "{late:?}");
        assert!(store.get(key(pile, "1")).await.expect("reads go on").is_some());
    }

    #[test]
    fn what_cannot_be_opened_says_why() {
        let dir = tempfile::tempdir().expect("a directory");
        let refusal = |config: Config| Embedded::open(config).err().expect("does not open");

        let file = dir.path().join("file");
        std::fs::write(&file, "x").expect("writes");
        let error = refusal(Config::new(&file));
        assert!(matches!(error, OpenError::NotADirectory { .. }), "{error}");
        let error = refusal(Config::new(file.join("below")));
        assert!(matches!(error, OpenError::NotADirectory { .. }), "{error}");
        let error = refusal(Config { partitions: 0, ..Config::new(dir.path()) });
        assert!(matches!(error, OpenError::NoPartitions { .. }), "{error}");

        let data = dir.path().join("some/data");
        let open = Embedded::open(Config::new(&data)).expect("creates directories");
        let error = refusal(Config::new(&data));
        assert!(matches!(error, OpenError::Locked { .. }), "{error}");
        assert!(error.to_string().contains("some/data/pileway.redb: in use by another process"), "{error}");
        drop(open);

        let error = refusal(Config { partitions: 16, ..Config::new(&data) });
        assert!(matches!(error, OpenError::Partitions { found: 64, configured: 16, .. }), "{error}");

        let database = redb::Database::open(data.join("pileway.redb")).expect("a database");
        let transaction = database.begin_write().expect("begins");
        let meta = redb::TableDefinition::<&str, u64>::new("meta");
        transaction.open_table(meta).expect("a table").insert("format", 3).expect("inserts");
        transaction.commit().expect("commits");
        drop(database);
        let error = refusal(Config::new(&data));
        assert!(matches!(error, OpenError::Format { found: 3, known: 2, .. }), "{error}");

        std::fs::write(data.join("pileway.redb"), "not a database").expect("writes");
        let error = refusal(Config::new(&data));
        assert!(error.to_string().contains("pileway.redb"), "{error}");
    }
}
