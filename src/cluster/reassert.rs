//! Saying again that the piles of this node are here, after the store may have forgotten it.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use crate::domain::PileCode;
use crate::session::{Reasserted, Sessions};
use crate::store::Partition;
use crate::store::ledger::Ledger;

/// Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Reasserter(Arc<Inner>);

struct Inner {
    sessions: Sessions,
    ledger: Ledger,
    wanted: Mutex<Wanted>,
    /// Requests so far, and how many of them have been seen to.
    asked: watch::Sender<u64>,
    done: watch::Sender<u64>,
}

/// What is to be said again, always under higher epochs: the store may have lost writes, or somebody watches over piles
/// that were taken for lost and would judge them by the fences they had. Bounded by partitions.
#[derive(Default)]
struct Wanted {
    everything: bool,
    /// These may have lost writes.
    anew: BTreeSet<Partition>,
    /// Any of them may have lost what an earlier run of this node has acknowledged.
    first_met: bool,
}

impl Reasserter {
    pub fn new(sessions: Sessions, ledger: Ledger) -> Self {
        let (asked, done) = (watch::Sender::new(0), watch::Sender::new(0));
        Self(Arc::new(Inner { sessions, ledger, wanted: Mutex::default(), asked, done }))
    }

    /// The lease had lapsed: any pile may have been taken for lost.
    pub fn everything(&self) {
        self.want(|wanted| wanted.everything = true);
    }

    /// These may have lost writes.
    pub fn partitions(&self, partitions: &[Partition]) {
        self.want(|wanted| wanted.anew.extend(partitions));
    }

    /// This run has met the store for the first time: nobody knows whether it still has what the run before has
    /// acknowledged, as after a power failure that took both.
    pub fn first_met(&self) {
        self.want(|wanted| wanted.first_met = true);
    }

    /// Waits until everything that was asked for before has been tried once.
    pub async fn tried(&self) {
        let asked = *self.0.asked.borrow();
        // Ends early only with the node.
        let _ = self.0.done.subscribe().wait_for(|done| *done >= asked).await;
    }

    /// Says it, paced, for as long as it is polled. Sessions that get no answer ask again by themselves.
    pub async fn run(self) {
        let mut asked = self.0.asked.subscribe();
        loop {
            if asked.wait_for(|asked| *asked > *self.0.done.borrow()).await.is_err() {
                return std::future::pending().await;
            }
            let number = *asked.borrow();
            let Wanted { everything, anew, first_met } =
                std::mem::take(&mut *self.0.wanted.lock().unwrap_or_else(PoisonError::into_inner));
            if first_met {
                let all = (0..self.0.ledger.store().partitions()).map(Partition);
                self.resettle(&all.collect::<Vec<_>>()).await;
            } else if !anew.is_empty() {
                self.resettle(&anew.iter().copied().collect::<Vec<_>>()).await;
            }
            if everything || !anew.is_empty() {
                self.say(self.affected(everything, &anew)).await;
            }
            self.0.done.send_replace(number);
        }
    }

    /// What has been acknowledged lately, and what the store may have lost of it.
    async fn resettle(&self, partitions: &[Partition]) {
        match self.0.ledger.resettle(partitions).await {
            Ok(records) => {
                tracing::info!(
                    partitions = partitions.len(),
                    records,
                    "the store may have lost writes: settling again"
                );
            }
            Err(error) => tracing::error!(%error, "what the store may have lost is not settled again"),
        }
    }

    fn affected(&self, everything: bool, anew: &BTreeSet<Partition>) -> Vec<(PileCode, bool)> {
        let partitions = self.0.ledger.store().partitions();
        let piles = self.0.sessions.piles().into_iter();
        let piles = piles.filter(|pile| everything || anew.contains(&Partition::of(*pile, partitions)));
        piles.map(|pile| (pile, true)).collect()
    }

    async fn say(&self, piles: Vec<(PileCode, bool)>) {
        if piles.is_empty() {
            return;
        }
        let (mut all_kept, mut all_lost, mut all_unknown) = (0, 0, 0);
        for part in piles.chunks(AT_ONCE) {
            let began = Instant::now();
            let Reasserted { kept, lost, unknown } = self.0.sessions.reassert(part.to_vec()).await;
            all_kept += kept;
            all_lost += lost;
            all_unknown += unknown.len();
            if part.len() == AT_ONCE {
                sleep(PACE.saturating_sub(began.elapsed())).await;
            }
        }
        tracing::info!(kept = all_kept, lost = all_lost, unknown = all_unknown, "piles claimed again");
    }

    fn want(&self, change: impl FnOnce(&mut Wanted)) {
        change(&mut self.0.wanted.lock().unwrap_or_else(PoisonError::into_inner));
        self.0.asked.send_modify(|asked| *asked += 1);
    }
}

/// Piles said again at once, and how often: 2560 a second.
const AT_ONCE: usize = 256;
const PACE: Duration = Duration::from_millis(100);
