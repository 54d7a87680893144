//! A platform at an address of its own, for as many piles as come, with manners the test chooses.

use futures_util::{SinkExt, StreamExt};
use pileway::wire::*;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::codec::Framed;

use crate::platform::{seconds, start, tariff};

/// How it treats piles.
#[derive(Clone, Copy)]
pub(crate) struct Manners {
    pub(crate) login: Login,
    /// Answers records with 0x40.
    pub(crate) ack: bool,
    /// As many 0x34, of one serial, at the first sign of an idle gun on a connection.
    pub(crate) starts: usize,
    /// One 0x36 at the first sign of a charge on a connection.
    pub(crate) stop: bool,
}

#[derive(Clone, Copy)]
pub(crate) enum Login {
    Accept,
    Reject,
    Ignore,
}

/// Answers, and asks nothing.
pub(crate) const KIND: Manners = Manners { login: Login::Accept, ack: true, starts: 0, stop: false };

/// What it saw, connections numbered from 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Seen {
    Frame { line: usize, pile: PileCode, code: u8 },
    Closed { line: usize },
}

pub(crate) struct Station {
    pub(crate) address: String,
    seen: watch::Receiver<Vec<Seen>>,
    listening: JoinHandle<()>,
}

impl Station {
    pub(crate) async fn open(manners: Manners) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let (note, seen) = watch::channel(Vec::new());
        let listening = tokio::spawn(async move {
            // Dropped with this task, and all connections with it.
            let mut lines = JoinSet::new();
            for line in 0.. {
                let (stream, _) = listener.accept().await.expect("an open listener");
                lines.spawn(serve(stream, line, manners, note.clone()));
            }
        });
        Self { address, seen, listening }
    }

    /// Nobody listens any more, and every connection has ended.
    pub(crate) async fn close(mut self) {
        self.listening.abort();
        // Aborted is what was asked for.
        let _ = (&mut self.listening).await;
        // The last of its connections drops the sender.
        while self.seen.changed().await.is_ok() {}
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.borrow().clone()
    }

    /// How many frames of a type came.
    pub(crate) fn count(&self, wanted: u8) -> usize {
        count(&self.seen.borrow(), wanted)
    }

    #[track_caller]
    pub(crate) fn until(&self, what: &str, wanted: impl Fn(&[Seen]) -> bool) -> impl Future<Output = ()> {
        let mut seen = self.seen.clone();
        let waiting = async move {
            seen.wait_for(|seen| wanted(seen)).await.expect("the station is open");
        };
        within(what, waiting)
    }
}

impl Drop for Station {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

pub(crate) fn count(seen: &[Seen], wanted: u8) -> usize {
    seen.iter().filter(|seen| matches!(seen, Seen::Frame { code, .. } if *code == wanted)).count()
}

/// Waits for `future`, and fails with `what` if it takes for ever.
#[track_caller]
pub(crate) fn within<F: Future>(what: &str, future: F) -> impl Future<Output = F::Output> {
    let place = std::panic::Location::caller();
    async move {
        let Ok(output) = tokio::time::timeout(seconds(30), future).await else {
            panic!("{place}: waited in vain for {what}");
        };
        output
    }
}

async fn serve(stream: TcpStream, line: usize, manners: Manners, note: watch::Sender<Vec<Seen>>) {
    let mut link = Framed::new(stream, Codec::new());
    let (mut starts, mut stops) = (manners.starts, usize::from(manners.stop));
    while let Some(Ok(Ok(packet))) = link.next().await {
        let Some(pile) = packet.frame.pile_code() else { continue };
        note.send_modify(|seen| seen.push(Seen::Frame { line, pile, code: packet.frame.code() }));
        let answers: Vec<Frame> = match packet.frame {
            Frame::LoginRequest(_) => match manners.login {
                Login::Accept => vec![LoginResponse { pile_code: pile, result: LoginResult::Accepted }.into()],
                Login::Reject => vec![LoginResponse { pile_code: pile, result: LoginResult::Rejected }.into()],
                Login::Ignore => vec![],
            },
            Frame::TariffCheckRequest(TariffCheckRequest { pile_code, tariff_model_no }) => {
                vec![TariffCheckResponse { pile_code, tariff_model_no, result: TariffCheck::Differs }.into()]
            }
            Frame::TariffRequest(_) => vec![TariffResponse { pile_code: pile, ..tariff() }.into()],
            Frame::Heartbeat(row) => vec![HeartbeatResponse { pile_code: pile, gun_no: row.gun_no, ack: 0 }.into()],
            Frame::RealtimeData(row) if row.status == GunStatus::Idle => {
                let mut transaction_serial = Serial([7; 16]);
                transaction_serial.0[..7].copy_from_slice(&pile.0);
                let start = RemoteStart { transaction_serial, pile_code: pile, ..start(7, 100_000) };
                vec![start.into(); std::mem::take(&mut starts)]
            }
            Frame::RealtimeData(row) if row.status == GunStatus::Charging => {
                vec![RemoteStop { pile_code: pile, gun_no: row.gun_no }.into(); std::mem::take(&mut stops)]
            }
            Frame::TransactionRecord(TransactionRecord { transaction_serial, .. }) if manners.ack => {
                vec![TransactionRecordAck { transaction_serial, result: RecordResult::UploadAccepted }.into()]
            }
            _ => vec![],
        };
        for answer in answers {
            if link.send(Outgoing::new(packet.sequence, answer)).await.is_err() {
                break;
            }
        }
    }
    note.send_modify(|seen| seen.push(Seen::Closed { line }));
}
