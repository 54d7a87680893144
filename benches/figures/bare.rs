//! The least a server can do with pileway's codec: it keeps nothing and knows no pile, but answers 0x01 and 0x03.
//!
//! Runtime, socket options, buffer size and flushing are the node's, so that the difference is what a session is for.

use std::io;

use futures_util::{FutureExt, SinkExt, StreamExt};
use pileway::wire::{Codec, Frame, HeartbeatResponse, LoginResponse, LoginResult, Outgoing, Packet};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::codec::Framed;

pub fn run() -> anyhow::Result<()> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        println!("ready piles={}", listener.local_addr()?);
        loop {
            let (socket, _) = listener.accept().await?;
            // A connection that fails ends; the client notices.
            tokio::spawn(async { serve(socket).await.ok() });
        }
    })
}

async fn serve(socket: TcpStream) -> io::Result<()> {
    socket.set_nodelay(true)?;
    let mut framed = Framed::with_capacity(socket, Codec::new(), 512);
    while let Some(item) = framed.next().await {
        answer(item?.ok(), &mut framed);
        // One flush for all that has arrived together.
        while let Some(Some(item)) = framed.next().now_or_never() {
            answer(item?.ok(), &mut framed);
        }
        framed.flush().await.map_err(io::Error::other)?;
    }
    Ok(())
}

fn answer(packet: Option<Packet>, framed: &mut Framed<TcpStream, Codec>) {
    let Some(Packet { sequence, frame, .. }) = packet else { return };
    let answer: Frame = match frame {
        Frame::LoginRequest(login) => {
            LoginResponse { pile_code: login.pile_code, result: LoginResult::Accepted }.into()
        }
        Frame::Heartbeat(beat) => HeartbeatResponse { pile_code: beat.pile_code, gun_no: beat.gun_no, ack: 0 }.into(),
        _ => return,
    };
    // Only a body of more than 251 bytes cannot be written.
    Outgoing::new(sequence, answer).write(framed.write_buffer_mut()).ok();
}
