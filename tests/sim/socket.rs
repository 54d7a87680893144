//! One pile over TCP against a scripted platform.

use futures_util::{SinkExt, StreamExt};
use pileway::sim::{PileConfig, spawn};
use pileway::wire::*;
use tokio_util::codec::Framed;

use crate::platform::*;

/// The scripted platform of the socket test: reads frames, answers by script.
#[tokio::test]
async fn a_pile_over_a_socket_logs_in_charges_and_delivers_its_record() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    let mut config = PileConfig::new("32010600019236".parse().expect("a code"));
    config.speed = 3600;
    // The first address is dead: the pile takes the next.
    let pile = spawn(config, vec!["127.0.0.1:1".to_owned(), address]);
    let script = async {
        let (stream, _) = listener.accept().await.expect("the pile");
        let mut link = Framed::new(stream, Codec::new());
        let serial = Serial([0x42; 16]);
        let mut record = None;
        while let Some(item) = link.next().await {
            let packet = item.expect("a socket").expect("a sound frame");
            let answer: Frame = match packet.frame {
                Frame::LoginRequest(_) => LoginResponse { pile_code: CODE, result: LoginResult::Accepted }.into(),
                Frame::TariffCheckRequest(row) => TariffCheckResponse {
                    pile_code: CODE,
                    tariff_model_no: row.tariff_model_no,
                    result: TariffCheck::Differs,
                }
                .into(),
                Frame::TariffRequest(_) => tariff().into(),
                Frame::Heartbeat(row) => HeartbeatResponse { pile_code: CODE, gun_no: row.gun_no, ack: 0 }.into(),
                Frame::RealtimeData(row) if record.is_none() && row.status == GunStatus::Idle => {
                    start(0x42, 500).into()
                }
                Frame::TransactionRecord(row) => {
                    assert_eq!(
                        (row.transaction_serial, row.stop_reason),
                        (serial, StopReason::AbortedInsufficientBalance)
                    );
                    record = Some(row);
                    TransactionRecordAck { transaction_serial: serial, result: RecordResult::UploadAccepted }.into()
                }
                Frame::RealtimeData(row) if record.is_some() && row.status == GunStatus::Idle => break,
                _ => continue,
            };
            link.send(Outgoing::new(packet.sequence, answer)).await.expect("a socket");
        }
        record.expect("a record")
    };
    let record = tokio::time::timeout(seconds(30), script).await.expect("in time");
    assert!(record.total_amount.raw() <= 50_000);
    let done =
        tokio::time::timeout(seconds(10), pile.wait_for(|view| !view.online)).await.expect("in time").expect("alive");
    assert_eq!((done.unacked, done.tariff_no), (0, [1, 0]));
    let counters = pile.stats().counters();
    assert_eq!(
        (counters.logins, counters.charges_started, counters.records_sent, counters.records_acked),
        (1, 1, 1, 1)
    );
    pile.stop().await;
}
