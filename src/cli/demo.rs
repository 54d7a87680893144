//! `pileway demo`: one charge from login to settled bill, watched through the public API.
//!
//! A whole node and three simulated piles run in this process. The story is told by a client that knows nothing of
//! either but the gRPC address: what it prints is what any client would see.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};
use tonic::transport::Channel;

use crate::api::convert::{to_amount, to_price};
use crate::api::pb;
use crate::api::pb::charging_service_client::ChargingServiceClient;
use crate::api::pb::pile_service_client::PileServiceClient;
use crate::api::pb::telemetry_service_client::TelemetryServiceClient;
use crate::app::App;
use crate::config::Config;
use crate::domain::{Amount, Energy, Period, PileCode, RequestId, Tariff};
use crate::observe;
use crate::sim::{self, PileConfig};

/// Prints a line. Whoever closes our output has seen enough, and the story goes on to its end all the same.
macro_rules! print_line {
    ($($text:tt)*) => {{
        let _ = writeln!(std::io::stdout(), $($text)*);
    }};
}

/// Watch one charge, from login to settled bill.
#[derive(clap::Args)]
pub struct DemoArgs {
    /// Leave node and piles running for any gRPC client, until Ctrl-C.
    #[arg(long)]
    keep: bool,
    /// How many times faster than real time the piles' clocks and meters run (1 to 3600).
    #[arg(long, value_name = "X", default_value_t = 120, value_parser = clap::value_parser!(u32).range(1..=3600))]
    speed: u32,
    /// How long to charge, in real seconds (3 to 600).
    #[arg(long, value_name = "SECONDS", default_value_t = 12, value_parser = clap::value_parser!(u64).range(3..=600))]
    seconds: u64,
}

pub fn demo(args: &DemoArgs) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let result = runtime.context("cannot start the runtime").and_then(|runtime| runtime.block_on(run(args)));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("demo failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: &DemoArgs) -> anyhow::Result<()> {
    let _observation = observe::init(observe::Format::Text, "warn")?;
    let data = TempDir::new()?;
    let flags = [
        ("demo", "pile.listen", "127.0.0.1:0".to_owned()),
        ("demo", "grpc.listen", "127.0.0.1:0".to_owned()),
        ("demo", "store.data_dir", data.0.display().to_string()),
    ];
    let config = Config::load(None, [], flags)?;
    let tariff = config.tariff.clone();
    let app = App::start(config).await.context("the node did not start")?;
    say(&format!("a node is up: piles connect to {}, services call {}", app.piles, app.grpc));

    let piles = PILES.map(|(code, guns, dc)| {
        let code: PileCode = code.parse().expect("14 digits, as written below");
        sim::spawn(
            PileConfig { guns, dc, speed: args.speed, soc: Some(20), ..PileConfig::new(code) },
            vec![app.piles.to_string()],
        )
    });
    let endpoint = format!("http://{}", app.grpc);
    let told = tokio::select! {
        told = tell(&endpoint, &tariff, Duration::from_secs(args.seconds)) => told,
        () = super::told_to_end() => Err(anyhow::anyhow!("interrupted")),
    };
    if args.keep && told.is_ok() {
        say(&format!("still running: gRPC (plaintext, with reflection) on {}, piles on {}", app.grpc, app.piles));
        say(&format!("try: grpcurl -plaintext {} pileway.v1.PileService/ListPiles", app.grpc));
        say("Ctrl-C ends it");
        super::told_to_end().await;
    }
    for pile in piles {
        pile.stop().await;
    }
    app.shut_down().await?;
    told
}

/// The story, told by a client of the public API.
async fn tell(endpoint: &str, tariff: &Tariff, charge_for: Duration) -> anyhow::Result<()> {
    let channel = Channel::from_shared(endpoint.to_owned())?.connect().await.context("the API does not answer")?;
    let mut piles = PileServiceClient::new(channel.clone());
    let mut charging = ChargingServiceClient::new(channel.clone());
    let telemetry = TelemetryServiceClient::new(channel);

    timeout(PATIENCE, all_online(&mut piles)).await.context("the piles did not log in in time")??;
    list(&mut piles).await?;

    let pile = PILES[0].0.to_owned();
    let orders = charging.watch_orders(pb::WatchOrdersRequest { piles: vec![pile.clone()] }).await?.into_inner();
    // Events are told as they happen, beside what else is told; dropping the set ends that.
    let mut events = JoinSet::new();
    events.spawn(until_settled(orders));
    let request = pb::StartChargingRequest {
        pile: pile.clone(),
        gun: 1,
        request_id: RequestId::from_bytes(uuid()).to_string(),
        order_id: ORDER_ID.into(),
        balance: Some(pb::Money { currency_code: "CNY".into(), units: 200, nanos: 0 }),
        ..pb::StartChargingRequest::default()
    };
    say(&format!("StartCharging pile {pile} gun 1"));
    let order = charging.start_charging(request).await.context("StartCharging failed")?.into_inner().order;
    let order = order.context("StartCharging came back without an order")?;
    say(&format!("the pile said yes: order {} is {}", order.serial, state(&order)));

    watch_live(telemetry, &pile, charge_for).await?;

    say("StopCharging");
    let stop = pb::StopChargingRequest { pile: pile.clone(), serial: order.serial.clone(), ..Default::default() };
    let stopped = charging.stop_charging(stop).await.context("StopCharging failed")?.into_inner();
    say(&format!("the pile stopped, known by its {}", word(stopped.confirmed_by().as_str_name())));

    let settled = timeout(PATIENCE, events.join_next()).await.context("the record did not come in time")?;
    settled.context("nobody watches the order")???;
    let get = pb::GetOrderRequest { pile, serial: order.serial };
    let order = charging.get_order(get).await?.into_inner().order.context("the order is gone")?;
    ensure!(order.state() == pb::OrderState::Settled, "the order is {}", state(&order));
    show_bill(&order, tariff)
}

async fn all_online(piles: &mut PileServiceClient<Channel>) -> anyhow::Result<()> {
    let mut watch = piles.watch_piles(pb::WatchPilesRequest::default()).await?.into_inner();
    let mut online = std::collections::BTreeSet::new();
    while let Some(message) = watch.message().await? {
        let pile = match message.update {
            Some(pb::watch_piles_response::Update::Snapshot(pile)) => Some(pile),
            Some(pb::watch_piles_response::Update::Event(event)) => event.pile,
            Some(pb::watch_piles_response::Update::SnapshotEnd(_)) | None => None,
        };
        let Some(pile) = pile else { continue };
        // Logged in, and every gun has reported: the pile has its tariff by then.
        let ready = pile.presence() == pb::PilePresence::Online
            && pile.guns.iter().all(|gun| gun.state() != pb::GunState::Offline);
        if ready && online.insert(pile.pile.clone()) {
            say(&format!("pile {} is online", pile.pile));
        }
        if online.len() == PILES.len() {
            return Ok(());
        }
    }
    bail!("the watch ended")
}

async fn list(piles: &mut PileServiceClient<Channel>) -> anyhow::Result<()> {
    let listed = piles.list_piles(pb::ListPilesRequest::default()).await?.into_inner().piles;
    print_line!("    {:<15} {:<4} {:<8} {:<9} guns", "pile", "type", "version", "software");
    for pile in listed {
        let kind = pile.pile_type.as_ref().map_or("", |t| t.name.as_str());
        let guns: Vec<_> =
            pile.guns.iter().map(|gun| format!("{} {}", gun.gun, word(gun.state().as_str_name()))).collect();
        let (version, software) = (&pile.protocol_version, &pile.software_version);
        print_line!("    {:<15} {kind:<4} {version:<8} {software:<9} {}", pile.pile, guns.join(", "));
    }
    Ok(())
}

/// The live view: one line that changes on a terminal, a line now and then otherwise.
async fn watch_live(
    mut telemetry: TelemetryServiceClient<Channel>,
    pile: &str,
    how_long: Duration,
) -> anyhow::Result<()> {
    let until = Instant::now() + how_long;
    let filter =
        pb::WatchTelemetryRequest { piles: vec![pile.to_owned()], kinds: vec![pb::TelemetryKind::Live.into()] };
    let mut watch = telemetry.watch_telemetry(filter).await?.into_inner();
    let terminal = std::io::stdout().is_terminal();
    let mut next_line = Instant::now();
    let mut seen = 0_u32;
    while let Ok(message) = timeout_at(until, watch.message()).await {
        let Some(update) = message?.and_then(|m| m.telemetry) else { bail!("the telemetry watch ended") };
        let Some(pb::telemetry::Measured::Live(live)) = update.measured else { continue };
        if update.gun != 1 || update.serial.is_empty() {
            continue;
        }
        seen += 1;
        if terminal {
            let mut out = std::io::stdout();
            let _ = write!(out, "\r\x1b[K    {}", live_line(&live)).and_then(|()| out.flush());
        } else if Instant::now() >= next_line {
            print_line!("    {}", live_line(&live));
            next_line = Instant::now() + LINE_EVERY;
        }
    }
    if terminal {
        print_line!();
    }
    ensure!(seen > 0, "no live telemetry came while charging");
    say(&format!("{seen} measurements in {} s", how_long.as_secs()));
    Ok(())
}

fn live_line(live: &pb::LiveData) -> String {
    let tenths = |milli: i32| format!("{}.{}", milli / 1000, milli % 1000 / 100);
    let soc = live.soc_percent.map_or_else(|| "-".to_owned(), |soc| format!("{soc}"));
    let celsius = live.battery_max_celsius.map_or_else(|| "-".to_owned(), |c| format!("{c}"));
    format!(
        "{:>6} kW  {:>6} V {:>6} A  SOC {soc:>3} %  battery {celsius:>3} °C  {:>8} kWh  {:>9} CNY",
        tenths(live.power_w),
        tenths(live.voltage_mv),
        tenths(live.current_ma),
        Energy(live.energy_mwh.unsigned_abs() / 100).to_string(),
        live.amount.as_ref().and_then(to_amount).unwrap_or_default().to_string(),
    )
}

/// Tells every event of the demo's order. It is known by its name here: its first event precedes its serial.
async fn until_settled(mut orders: tonic::Streaming<pb::WatchOrdersResponse>) -> anyhow::Result<()> {
    while let Some(message) = orders.message().await? {
        let Some(pb::watch_orders_response::Update::Event(event)) = message.update else { continue };
        let Some(order) = event.order.as_ref().filter(|order| order.order_id == ORDER_ID) else { continue };
        say(&format!("event: {}, order {}", word(event.change().as_str_name()), state(order)));
        if order.state() == pb::OrderState::Settled {
            return Ok(());
        }
    }
    bail!("the watch of orders ended")
}

/// Prints the bill and compares it with what the configured tariff makes of its energies.
fn show_bill(order: &pb::Order, tariff: &Tariff) -> anyhow::Result<()> {
    let bill = order.bill.as_ref().context("a settled order without a bill")?;
    print_line!(
        "    {:<8} {:>9} {:>11} {:>11} {:>11} {:>11}",
        "period",
        "CNY/kWh",
        "kWh",
        "CNY",
        "energy fee",
        "service fee"
    );
    let mut total = Amount(0);
    for (billed, period) in bill.periods.iter().zip(Period::ALL) {
        let energy = Energy(billed.loss_energy_mwh.unsigned_abs() / 100);
        let ours = tariff.prices_of(period).unit().cost(energy);
        total += ours;
        let amount = billed.amount.as_ref().and_then(to_amount).context("an amount that is none")?;
        ensure!(ours == amount, "{}: the pile bills {amount} CNY, the tariff makes it {ours}", period.name());
        if energy != Energy(0) {
            let fee = |money: &Option<pb::Money>| money.as_ref().and_then(to_amount).unwrap_or_default().to_string();
            let price = billed.unit_price.as_ref().and_then(to_price).unwrap_or_default();
            print_line!(
                "    {:<8} {:>9} {:>11} {:>11} {:>11} {:>11}",
                period.name(),
                price.to_string(),
                energy.to_string(),
                amount.to_string(),
                fee(&billed.energy_fee),
                fee(&billed.service_fee)
            );
        }
    }
    let billed = bill.total_amount.as_ref().and_then(to_amount).context("a bill without a total")?;
    let energy = Energy(bill.total_energy_mwh.unsigned_abs() / 100);
    print_line!("    {:<8} {:>9} {:>11} {:>11}", "total", "", energy.to_string(), billed.to_string());
    ensure!(total == billed, "the pile bills {billed} CNY, the tariff makes it {total}");
    ensure!(energy > Energy(0), "the bill is empty");
    let reason = bill.stop_reason.as_ref().map_or("", |reason| reason.name.as_str());
    say(&format!("settled: {energy} kWh, {billed} CNY, as the tariff makes it ({reason})"));
    Ok(())
}

fn state(order: &pb::Order) -> String {
    word(order.state().as_str_name())
}

/// `ORDER_STATE_SETTLED` → `settled`: what comes after the enumeration's own name.
fn word(name: &str) -> String {
    const PREFIXES: [&str; 4] = ["ORDER_STATE_", "ORDER_CHANGE_", "GUN_STATE_", "STOP_PROOF_"];
    let bare = PREFIXES.iter().find_map(|prefix| name.strip_prefix(prefix)).unwrap_or(name);
    bare.to_lowercase().replace('_', " ")
}

fn say(line: &str) {
    // On a terminal the live line may stand where this one goes: it is drawn again below.
    let clear = if std::io::stdout().is_terminal() { "\r\x1b[K" } else { "" };
    print_line!("{clear}==> {line}");
}

/// A random UUID (version 4).
fn uuid() -> [u8; 16] {
    let mut bytes = [0; 16];
    // Without randomness there is still only one demo in this process.
    let _ = getrandom::fill(&mut bytes);
    bytes[6] = bytes[6] & 0x0F | 0x40;
    bytes[8] = bytes[8] & 0x3F | 0x80;
    bytes
}

/// Removed when the demo ends.
struct TempDir(std::path::PathBuf);

impl TempDir {
    fn new() -> anyhow::Result<Self> {
        let path = std::env::temp_dir().join(format!("pileway-demo-{}", std::process::id()));
        std::fs::create_dir_all(&path).with_context(|| format!("cannot create {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        // Left behind at worst: it is in the system's directory for such things.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Code, guns, DC.
const PILES: [(&str, u8, bool); 3] =
    [("32010600019236", 2, true), ("32010600019237", 2, true), ("32010600019238", 1, false)];
const ORDER_ID: &str = "demo-1";
/// How long anything may take that a pile does at once.
const PATIENCE: Duration = Duration::from_mins(1);
const LINE_EVERY: Duration = Duration::from_secs(2);
