//! Piles that log in, stay, and on demand play ping-pong with heartbeats: one in flight each.
//!
//! One thread, since tokio's scheduler for several serves some of a thousand busy connections far more often than
//! others. What is sent and what must come back is made before the clock runs: it is the server that is measured.

pub mod logins;
pub mod records;
pub mod turns;

use std::io::{BufRead, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use bytes::BytesMut;
use pileway::wire::{
    Ascii, Bcd, Frame, GunHealth, GunNo, Heartbeat, HeartbeatResponse, LoginRequest, LoginResponse, LoginResult,
    NetworkType, Operator, Outgoing, PileCode, PileType, ProtocolVersion, Sequence,
};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// What one round of ping-pong came to.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub struct Round {
    /// Answers per second in the measured window.
    pub per_second: f64,
    /// All answers, those of the warm-up and the end included: what the server's CPU time was spent on.
    pub answers: u64,
    /// Round trips in the window, in microseconds.
    pub p50_us: f64,
    pub p99_us: f64,
    /// Answers in the window of the pile that got least, of the middle one, and of the one that got most.
    pub per_pile: [u32; 3],
}

/// Prints `ready` when all piles have logged in and had one heartbeat answered; then a [`Round`] for every line it reads.
pub fn run(server: SocketAddr, first: u32, count: u32) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut piles = runtime.block_on(log_in(server, first, count))?;
    println!("ready");
    for line in std::io::stdin().lock().lines() {
        line?;
        let round = runtime.block_on(ping_pong(&mut piles))?;
        println!("{}", serde_json::to_string(&round)?);
        std::io::stdout().flush()?;
    }
    // Standard input has ended: so has whoever wanted this.
    Ok(())
}

async fn log_in(server: SocketAddr, first: u32, count: u32) -> anyhow::Result<Vec<Pile>> {
    let at_once = Arc::new(Semaphore::new(LOGINS_AT_ONCE));
    let mut logins = JoinSet::new();
    for number in first..first + count {
        let at_once = at_once.clone();
        logins.spawn(async move {
            let _permit = at_once.acquire().await?;
            let login = timeout(ANSWER_LIMIT, Pile::log_in(server, number)).await;
            login.context("not answered in time").flatten().with_context(|| format!("pile {number} did not log in"))
        });
    }
    let mut piles = Vec::with_capacity(count as usize);
    while let Some(login) = logins.join_next().await {
        piles.push(login??);
    }
    Ok(piles)
}

async fn ping_pong(piles: &mut Vec<Pile>) -> anyhow::Result<Round> {
    let began = Instant::now();
    let mut playing = JoinSet::new();
    for pile in piles.drain(..) {
        playing.spawn(async move { timeout(WARM_UP + WINDOW + ANSWER_LIMIT, pile.play(began)).await });
    }
    let (mut answers, mut trips, mut each) = (0, vec![], vec![]);
    while let Some(played) = playing.join_next().await {
        let (pile, all, measured) = played?.context("a heartbeat was not answered in time")??;
        piles.push(pile);
        answers += all;
        each.push(measured.len() as u32);
        trips.extend(measured);
    }
    ensure!(!trips.is_empty(), "no heartbeat was answered");
    trips.sort_unstable();
    each.sort_unstable();
    let percentile = |p: usize| f64::from(trips[(trips.len() - 1) * p / 100]) / 1000.0;
    Ok(Round {
        per_second: trips.len() as f64 / WINDOW.as_secs_f64(),
        answers,
        p50_us: percentile(50),
        p99_us: percentile(99),
        per_pile: [each[0], each[each.len() / 2], each[each.len() - 1]],
    })
}

struct Pile {
    socket: TcpStream,
    ping: BytesMut,
    pong: BytesMut,
}

impl Pile {
    async fn log_in(server: SocketAddr, number: u32) -> anyhow::Result<Self> {
        let socket = TcpStream::connect(server).await?;
        socket.set_nodelay(true)?;
        let (pile_code, gun_no): (PileCode, _) = (format!("{number:014}").parse()?, GunNo(1));
        let login = login_of(pile_code);
        let mut pile = Self {
            socket,
            ping: bytes_of(Heartbeat { pile_code, gun_no, gun_status: GunHealth::Normal })?,
            pong: bytes_of(HeartbeatResponse { pile_code, gun_no, ack: 0 })?,
        };
        let accepted = bytes_of(LoginResponse { pile_code, result: LoginResult::Accepted })?;
        pile.socket.write_all(&bytes_of(login)?).await?;
        receive(&mut pile.socket, &accepted).await.context("0x01 was not answered with 0x02, accepted")?;
        pile.beat().await?;
        Ok(pile)
    }

    /// Until the window closes: how often in all, and the round trips within the window in nanoseconds.
    async fn play(mut self, began: Instant) -> anyhow::Result<(Self, u64, Vec<u32>)> {
        let (mut answers, mut measured) = (0, vec![]);
        let (opens, closes) = (began + WARM_UP, began + WARM_UP + WINDOW);
        let mut sent = Instant::now();
        loop {
            self.beat().await?;
            let received = Instant::now();
            answers += 1;
            if received >= closes {
                return Ok((self, answers, measured));
            }
            if received >= opens {
                measured.push(u32::try_from((received - sent).as_nanos()).unwrap_or(u32::MAX));
            }
            sent = received;
        }
    }

    async fn beat(&mut self) -> anyhow::Result<()> {
        self.socket.write_all(&self.ping).await?;
        receive(&mut self.socket, &self.pong).await.context("0x03 was not answered with its 0x04")
    }
}

fn login_of(pile_code: PileCode) -> LoginRequest {
    LoginRequest {
        pile_code,
        pile_type: PileType::Dc,
        gun_count: 2,
        protocol_version: ProtocolVersion(0x0F),
        software_version: Ascii(*b"V4.1.50\0"),
        network_type: NetworkType::SimCard,
        sim_card: Bcd([0x89; 10]),
        operator: Operator::ChinaMobile,
    }
}

fn bytes_of(frame: impl Into<Frame>) -> anyhow::Result<BytesMut> {
    let mut bytes = BytesMut::new();
    Outgoing::new(Sequence([0x2F, 0x01]), frame).write(&mut bytes)?;
    Ok(bytes)
}

async fn receive(socket: &mut TcpStream, expected: &[u8]) -> anyhow::Result<()> {
    let mut received = [0; 32];
    let received = &mut received[..expected.len()];
    let mut at = 0;
    while at < expected.len() {
        match socket.read(&mut received[at..]).await? {
            0 => bail!("the server closed the connection"),
            n => at += n,
        }
    }
    ensure!(received == expected, "received {received:02X?} instead of {expected:02X?}");
    Ok(())
}

/// Enough to keep both sides busy, and less than a listener's backlog.
const LOGINS_AT_ONCE: usize = 256;
const ANSWER_LIMIT: Duration = Duration::from_secs(15);
const WARM_UP: Duration = Duration::from_millis(300);
/// How long answers are counted.
pub const WINDOW: Duration = Duration::from_millis(1700);
