//! What only an embedded store can get into: a disk that fails, a writer that is stuck or panics.

use std::sync::atomic::{AtomicBool, Ordering};

use redb::StorageBackend;
use redb::backends::FileBackend;

use super::*;
use crate::domain::WallMs;

/// The flag is whether the disk is full.
pub(crate) fn on_a_disk_that_fills_up(dir: &Path) -> (Embedded, Arc<AtomicBool>) {
    let full = Arc::new(AtomicBool::new(false));
    let (path, shared) = (dir.join(FILE), full.clone());
    let create = move || {
        let file = File::options().read(true).write(true).create(true).truncate(false).open(&path);
        let file = file.map_err(|source| OpenError::Io { path: path.clone(), source })?;
        let file = FileBackend::new(file).expect("a file");
        let database = Database::builder().create_with_backend(Filling { file, full: shared.clone() });
        database.map_err(|error| OpenError::Database { path: path.clone(), source: Box::new(error.into()) })
    };
    (Embedded::open_with(Config::new(dir), Box::new(create)).expect("opens"), full)
}

#[derive(Debug)]
struct Filling {
    file: FileBackend,
    full: Arc<AtomicBool>,
}

impl Filling {
    fn room(&self) -> io::Result<()> {
        if self.full.load(Ordering::SeqCst) { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }
}

impl StorageBackend for Filling {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.room()?;
        self.file.set_len(len)
    }

    /// What is allocated can be synced; what redb calls growing cannot.
    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        // The header is there and can be written, also when the file is opened again.
        if offset > 0 {
            self.room()?;
        }
        self.file.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.file.close()
    }
}

fn open(dir: &Path, queue: usize, time_limit: Duration) -> Embedded {
    Embedded::open(Config { queue, time_limit, ..Config::new(dir) }).expect("opens")
}

fn owner_of(store: &Embedded) -> impl Future<Output = Result<bool, StoreError>> {
    let fence =
        Fence { session: crate::domain::SessionId { incarnation: 1, counter: 1 }, epoch: crate::domain::Epoch(1) };
    store.release(PileCode::from_bcd([0; 7]).expect("a pile"), fence)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_that_panics_is_noticed_by_whoever_waits_and_by_all_later_calls() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = open(dir.path(), 8, Duration::from_mins(1));
    let panics = store.write::<(), _>(|_| panic!("a defect"));
    let (first, second) = tokio::join!(panics, owner_of(&store));
    assert!(matches!(first, Err(StoreError::Unavailable(_))), "{first:?}");
    assert!(!matches!(second, Ok(true)), "{second:?}");
    let later = owner_of(&store).await;
    assert!(matches!(later, Err(StoreError::Unavailable(_))), "{later:?}");
    tokio::time::timeout(Duration::from_secs(20), store.closed()).await.expect("the writer has ended");
    store.health().expect_err("nothing can be written");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stuck_writer_and_a_full_queue_end_in_unavailable_within_the_limit() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = open(dir.path(), 1, Duration::from_millis(50));
    let (unblock, blocked) = std::sync::mpsc::channel::<()>();
    let stuck = store.write(move |_| Ok(blocked.recv().is_ok()));
    let waiting = futures_util::future::join_all((0..4).map(|_| owner_of(&store)));
    let (stuck, waiting) = tokio::join!(stuck, waiting);
    assert!(matches!(stuck, Err(StoreError::Unavailable(_))), "{stuck:?}");
    assert!(waiting.iter().all(|answer| matches!(answer, Err(StoreError::Unavailable(_)))), "{waiting:?}");

    unblock.send(()).expect("the writer waits for it");
    while owner_of(&store).await.is_err() {}
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stuck_writer_holds_up_neither_the_close_nor_the_drop() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = open(dir.path(), 1, Duration::from_millis(50));
    let (_unblock, blocked) = std::sync::mpsc::channel::<()>();
    let stuck = store.write(move |_| Ok(blocked.recv().is_ok()));
    // The second fills the queue, so that the close finds no room either.
    let (stuck, _) = tokio::join!(stuck, owner_of(&store));
    stuck.expect_err("it waits for the end of the test");
    tokio::time::timeout(Duration::from_secs(20), store.close()).await.expect("goes on");
    drop(store);
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_that_hang_are_no_more_than_their_places() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = open(dir.path(), 8, Duration::from_millis(200));
    let (hold, held): (Vec<_>, Vec<_>) = (0..MAX_READS).map(|_| std::sync::mpsc::channel::<()>()).unzip();
    let hang = |held: std::sync::mpsc::Receiver<()>| store.read(move |_| Ok(held.recv().is_ok()));
    let hung = futures_util::future::join_all(held.into_iter().map(hang)).await;
    assert!(hung.iter().all(|answer| matches!(answer, Err(StoreError::Unavailable(_)))), "{hung:?}");

    let ran = Arc::new(AtomicBool::new(false));
    let late = ran.clone();
    let answer = store.read(move |_| Ok(late.swap(true, Ordering::SeqCst))).await;
    assert!(matches!(answer, Err(StoreError::Unavailable(_))), "{answer:?}");

    drop(hold);
    let read = async { while store.log_end(Partition(0)).await.is_err() {} };
    tokio::time::timeout(Duration::from_secs(20), read).await.expect("the places are free again");
    assert!(!ran.load(Ordering::SeqCst), "who found no place left nothing behind");
}

#[tokio::test]
async fn one_refused_operation_does_not_disturb_the_others_of_its_group() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = open(dir.path(), 8, Duration::from_mins(1));
    let pile = PileCode::from_bcd([0; 7]).expect("a pile");
    let append = super::super::Append { pile, payload: "kept".into() };
    // The first holds the writer until the others wait behind it, so that they are one group.
    let (unblock, blocked) = std::sync::mpsc::channel::<()>();
    let hold = store.write(move |_| Ok(blocked.recv().is_ok()));
    let refused = store.write::<(), _>(|_| Err(StoreError::Invalid("refused".to_owned()).into()));
    let written = store.write(move |tables| tables.append(&append));
    let unblock = async { unblock.send(()).expect("the writer waits for it") };
    let (held, refused, written, ()) = tokio::join!(hold, refused, written, unblock);
    assert_eq!((held, written), (Ok(true), Ok(1)));
    assert_eq!(refused, Err(StoreError::Invalid("refused".to_owned())));
    assert_eq!(store.log_end(Partition::of(pile, store.partitions)).await, Ok(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_was_full_is_written_again_without_a_restart() {
    let dir = tempfile::tempdir().expect("a directory");
    let (store, full) = on_a_disk_that_fills_up(dir.path());
    let pile = PileCode::from_bcd([0; 7]).expect("a pile");
    let claim = |counter| {
        let session = crate::domain::SessionId { incarnation: 1, counter };
        store.claim(Claim::login(pile, session, WallMs(1), 1))
    };
    let before = claim(1).await.expect("writes").fence;
    assert_eq!(store.health(), Ok(()));

    full.store(true, Ordering::SeqCst);
    for counter in 2..20 {
        let refused = claim(counter).await;
        let Err(StoreError::Unavailable(why)) = refused else { panic!("written to a full disk: {refused:?}") };
        assert!(why.contains("no storage space"), "says what the disk said: {why}");
    }
    let Err(StoreError::Unavailable(why)) = store.health() else { panic!("healthy on a full disk") };
    assert!(why.contains("no storage space"), "{why}");
    let owner = async {
        loop {
            if let Ok(owner) = store.owner(pile).await {
                break owner;
            }
        }
    };
    let owner = tokio::time::timeout(Duration::from_secs(20), owner).await.expect("reads go on");
    assert_eq!(owner, Some(before), "nothing that was refused is there");

    full.store(false, Ordering::SeqCst);
    let mended = async {
        while store.health().is_err() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), mended).await.expect("mended by itself, without a write");
    let after = claim(20).await.expect("writes");
    assert_eq!(after.previous, Some(before));
}
