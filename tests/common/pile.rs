//! Piles that do what the test says, over a real socket.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::ops::{Deref, DerefMut};

use futures_util::{SinkExt, StreamExt};
use pileway::wire::*;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_util::codec::Framed;

use super::{Node, frames, within};

/// One TCP connection to the pile port, of one pile or of several.
pub struct Line {
    framed: Framed<TcpStream, Codec>,
    sequences: SequenceCounter,
    /// Came while something else was expected.
    aside: VecDeque<Packet>,
}

impl Line {
    pub async fn connect(node: &Node) -> Self {
        Self::connect_to(node.piles).await
    }

    pub async fn connect_to(address: SocketAddr) -> Self {
        Self::over(within("a connection", TcpStream::connect(address)).await.expect("the node listens"))
    }

    pub fn over(socket: TcpStream) -> Self {
        socket.set_nodelay(true).expect("an open socket");
        Self {
            framed: Framed::new(socket, Codec::new()),
            sequences: SequenceCounter::default(),
            aside: VecDeque::new(),
        }
    }

    /// Logs a pile in, and waits for the platform's yes.
    pub async fn login(&mut self, pile: &str, guns: u8) {
        let sequence = self.send(frames::login(pile, guns)).await;
        let (answer, echoed) = self.expect_with_sequence::<LoginResponse>().await;
        assert_eq!((answer.pile_code, answer.result), (frames::code(pile), LoginResult::Accepted));
        assert_eq!(echoed, sequence);
    }

    /// Sends under the next sequence number; which one it was.
    pub async fn send(&mut self, frame: impl Into<Frame>) -> Sequence {
        let sequence = self.sequences.next_sequence();
        self.send_as(sequence, frame).await;
        sequence
    }

    pub async fn send_as(&mut self, sequence: Sequence, frame: impl Into<Frame>) {
        self.send_outgoing(Outgoing::new(sequence, frame)).await;
    }

    pub async fn send_outgoing(&mut self, outgoing: Outgoing) {
        within("room to send", self.framed.send(outgoing)).await.expect("the connection is open");
    }

    /// Whether it could be sent.
    pub async fn try_send(&mut self, frame: impl Into<Frame>) -> bool {
        let outgoing = Outgoing::new(self.sequences.next_sequence(), frame);
        within("room to send", self.framed.send(outgoing)).await.is_ok()
    }

    /// Any bytes, in one write.
    pub async fn send_bytes(&mut self, bytes: &[u8]) {
        within("room to send", self.framed.get_mut().write_all(bytes)).await.expect("the connection is open");
    }

    /// Any bytes, if the connection is still open.
    pub async fn try_send_bytes(&mut self, bytes: &[u8]) -> bool {
        within("room to send", self.framed.get_mut().write_all(bytes)).await.is_ok()
    }

    /// The next frame; `None` once the node has closed the connection.
    pub async fn next(&mut self) -> Option<Packet> {
        match self.aside.pop_front() {
            Some(packet) => Some(packet),
            None => self.read().await,
        }
    }

    async fn read(&mut self) -> Option<Packet> {
        match within("a frame", self.framed.next()).await? {
            Ok(packet) => Some(packet.expect("the node sends sound frames")),
            // A reset is an end as well.
            Err(_) => None,
        }
    }

    /// The next frame of this kind; others are kept for later.
    pub async fn expect<T: Expected>(&mut self) -> T {
        self.expect_with_sequence().await.0
    }

    pub async fn expect_with_sequence<T: Expected>(&mut self) -> (T, Sequence) {
        if let Some(at) = self.aside.iter().position(|packet| T::of(&packet.frame).is_some()) {
            let packet = self.aside.remove(at).expect("it is there");
            return (T::of(&packet.frame).expect("just seen"), packet.sequence);
        }
        loop {
            let name = std::any::type_name::<T>();
            let Some(packet) = self.read().await else { panic!("the connection ended instead of bringing {name}") };
            match T::of(&packet.frame) {
                Some(row) => return (row, packet.sequence),
                None => self.aside.push_back(packet),
            }
        }
    }

    /// What the node has sent up to now: a heartbeat goes there and back, and everything before its answer is old.
    pub async fn so_far(&mut self, pile: &str) -> Vec<Frame> {
        let sequence = Sequence([0xB4, 0x44]);
        self.send_as(sequence, frames::heartbeat(pile)).await;
        let mut seen: Vec<Frame> = self.aside.drain(..).map(|packet| packet.frame).collect();
        loop {
            let packet = self.read().await.expect("the node keeps the connection");
            match packet.frame {
                Frame::HeartbeatResponse(_) if packet.sequence == sequence => return seen,
                frame => seen.push(frame),
            }
        }
    }

    /// Waits until the node has closed the connection.
    pub async fn closed(&mut self) {
        while self.read().await.is_some() {}
    }

    /// Asks for a sign of life, and gets it.
    pub async fn is_served(&mut self, pile: &str) {
        self.so_far(pile).await;
    }

    /// The socket and its codec, for what a pile should not do.
    pub fn into_socket(self) -> TcpStream {
        self.framed.into_inner()
    }
}

/// One pile on a line of its own.
pub struct Pile {
    pub code: String,
    line: Line,
}

impl Pile {
    /// Connects and logs in, with one gun.
    pub async fn login(node: &Node, code: &str) -> Self {
        Self::login_with_guns(node, code, 1).await
    }

    pub async fn login_with_guns(node: &Node, code: &str, guns: u8) -> Self {
        Self::login_at(node.piles, code, guns).await
    }

    pub async fn login_at(address: SocketAddr, code: &str, guns: u8) -> Self {
        let mut line = Line::connect_to(address).await;
        line.login(code, guns).await;
        Self { code: code.to_owned(), line }
    }

    pub async fn served(&mut self) {
        self.line.is_served(&self.code).await;
    }

    /// What the node has sent up to now.
    pub async fn seen(&mut self) -> Vec<Frame> {
        self.line.so_far(&self.code).await
    }

    /// Waits for 0x34 and answers it.
    pub async fn answer_start(&mut self, reason: StartFailure) -> Serial {
        let start = self.expect::<RemoteStart>().await;
        let serial = start.transaction_serial;
        let gun = start.gun_no.number(2);
        let answer = frames::start_answer(&self.code, gun, serial, reason);
        self.send(answer).await;
        serial
    }

    /// Waits for 0x36 and answers it.
    pub async fn answer_stop(&mut self, reason: StopFailure) {
        let stop = self.expect::<RemoteStop>().await;
        let answer = frames::stop_answer(&self.code, stop.gun_no.number(2), reason);
        self.send(answer).await;
    }

    pub async fn idle(&mut self, gun: u8) {
        let frame = frames::idle(&self.code, gun);
        self.send(frame).await;
    }

    pub async fn charge(&mut self, gun: u8, serial: Serial, energy: u32) {
        let frame = frames::charging(&self.code, gun, serial, energy);
        self.send(frame).await;
    }

    /// Sends 0x3B and waits for 0x40.
    pub async fn settle(&mut self, gun: u8, serial: Serial, energy: u32) {
        let frame = frames::record(&self.code, gun, serial, energy);
        self.settle_frame(frame).await;
    }

    pub async fn settle_frame(&mut self, record: impl Into<Frame>) {
        let record = record.into();
        let serial = record.serial().expect("a record names its serial");
        let sequence = self.send(record).await;
        let (ack, echoed) = self.expect_with_sequence::<TransactionRecordAck>().await;
        assert_eq!((ack.transaction_serial, ack.result), (serial, RecordResult::UploadAccepted));
        assert_eq!(echoed, sequence);
    }

    /// The line alone: what it is used for need not be this pile.
    pub fn into_line(self) -> Line {
        self.line
    }
}

impl Deref for Pile {
    type Target = Line;

    fn deref(&self) -> &Line {
        &self.line
    }
}

impl DerefMut for Pile {
    fn deref_mut(&mut self) -> &mut Line {
        &mut self.line
    }
}

/// A kind of frame to wait for.
pub trait Expected: Sized {
    fn of(frame: &Frame) -> Option<Self>;
}

macro_rules! expected {
    ($($Name:ident)+) => {$(
        impl Expected for $Name {
            fn of(frame: &Frame) -> Option<Self> {
                match frame {
                    Frame::$Name(row) => Some(row.clone()),
                    _ => None,
                }
            }
        }
    )+};
}

expected! {
    LoginResponse HeartbeatResponse TariffCheckResponse TariffResponse RealtimeQuery StartConfirm RemoteStart
    RemoteStop TransactionRecordAck TimeSync Reboot BalanceUpdate RemoteStartV18 TariffSet StartConfirmV18
    ParallelStartConfirm ParallelRemoteStart
}
