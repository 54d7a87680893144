//! Piles that have bills to settle: each sends one and waits for its acknowledgement.

use std::net::SocketAddr;

use anyhow::{Context, bail, ensure};
use futures_util::{SinkExt, StreamExt};
use pileway::wire::{
    Amount, Ascii, Civil, Codec, Cp56Time2a, Energy, Frame, GunNo, MeterEnergy, Opaque, Outgoing, PileCode, Price,
    RecordResult, Sequence, Serial, StartType, StopReason, TransactionRecord,
};
use tokio::net::TcpStream;
use tokio_util::codec::Framed;

use super::login_of;
use super::turns::{Client, serve};

pub fn run(server: SocketAddr, clients: u32) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let piles = (0..clients).map(|number| Pile::log_in(server, number));
    let piles = runtime.block_on(futures_util::future::try_join_all(piles))?;
    serve(&runtime, piles, |_, _| {})
}

struct Pile {
    framed: Framed<TcpStream, Codec>,
    record: TransactionRecord,
    /// Bills so far.
    bills: u64,
}

impl Pile {
    async fn log_in(server: SocketAddr, number: u32) -> anyhow::Result<Self> {
        let socket = TcpStream::connect(server).await?;
        socket.set_nodelay(true)?;
        let pile_code = format!("9{number:013}").parse()?;
        let mut pile = Self { framed: Framed::new(socket, Codec::new()), record: record_of(pile_code)?, bills: 0 };
        pile.framed.send(outgoing(login_of(pile_code))).await?;
        let Frame::LoginResponse(_) = pile.next().await? else { bail!("pile {pile_code} did not log in") };
        Ok(pile)
    }

    async fn next(&mut self) -> anyhow::Result<Frame> {
        let item = self.framed.next().await.context("the server closed the connection")?;
        Ok(item?.context("the server sent a bad frame")?.frame)
    }
}

impl Client for Pile {
    async fn turn(&mut self) -> anyhow::Result<()> {
        self.bills += 1;
        self.record.transaction_serial = serial_of(self.record.pile_code, self.bills);
        self.framed.send(outgoing(self.record.clone())).await?;
        loop {
            // What else a node says to a pile that has just logged in is none of our business.
            if let Frame::TransactionRecordAck(ack) = self.next().await? {
                ensure!(ack.transaction_serial == self.record.transaction_serial, "another bill was acknowledged");
                ensure!(ack.result == RecordResult::UploadAccepted, "a bill was refused: {:?}", ack.result);
                return Ok(());
            }
        }
    }
}

fn outgoing(frame: impl Into<Frame>) -> Outgoing {
    Outgoing::new(Sequence([0x2F, 0x01]), frame)
}

fn serial_of(pile: PileCode, bill: u64) -> Serial {
    let mut bytes = [0; 16];
    bytes[..7].copy_from_slice(&pile.0);
    bytes[7] = 1;
    bytes[8..].copy_from_slice(&bill.to_be_bytes());
    Serial(bytes)
}

/// 10 kWh in the peak hours at 1.40000 CNY; its serial is still to be given.
fn record_of(pile_code: PileCode) -> anyhow::Result<TransactionRecord> {
    let (none, amount, energy) = (Energy(0), Amount(140_000), Energy(100_000));
    let civil =
        Civil { year: 2026, month: 5, day: 17, hour: 10, minute: 30, second: 0, millisecond: 0, day_of_week: 0 };
    let time = Cp56Time2a::from_civil(civil).context("a time the wire cannot say")?;
    Ok(TransactionRecord {
        transaction_serial: Serial::ZERO,
        pile_code,
        gun_no: GunNo(1),
        start_time: time,
        end_time: time,
        sharp_unit_price: Price(160_000),
        sharp_energy: none,
        sharp_loss_energy: none,
        sharp_amount: Amount(0),
        peak_unit_price: Price(140_000),
        peak_energy: energy,
        peak_loss_energy: energy,
        peak_amount: amount,
        flat_unit_price: Price(110_000),
        flat_energy: none,
        flat_loss_energy: none,
        flat_amount: Amount(0),
        valley_unit_price: Price(70_000),
        valley_energy: none,
        valley_loss_energy: none,
        valley_amount: Amount(0),
        meter_start: MeterEnergy::from_milliwatt_hours(500_000_000),
        meter_end: MeterEnergy::from_milliwatt_hours(510_000_000),
        total_energy: energy,
        total_loss_energy: energy,
        total_amount: amount,
        vin: Ascii::new("LSVAA4182E2184847").context("a VIN the wire cannot say")?,
        start_type: StartType::App,
        trade_time: time,
        stop_reason: StopReason::FinishedByApp,
        physical_card: Opaque::ZERO,
    })
}
