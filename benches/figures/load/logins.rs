//! Piles that log in as fast as they are let, and are gone again.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::Context;
use bytes::BytesMut;
use pileway::wire::{LoginResponse, LoginResult, PileCode};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpSocket;

use super::turns::{Client, serve};
use super::{bytes_of, login_of, receive};

/// Asked for `first` it logs in piles that nobody has seen, for `again` those it began with.
pub fn run(server: SocketAddr, clients: u32) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut all: Vec<_> =
        (0..clients).map(|number| Door { server, number, known: 0, fresh: KNOWN, first: false }).collect();
    runtime.block_on(async {
        for _ in 0..KNOWN {
            futures_util::future::try_join_all(all.iter_mut().map(Client::turn)).await?;
        }
        anyhow::Ok(())
    })?;
    serve(&runtime, all, |door, line| door.first = line == "first")
}

/// One pile after the other, from an address of its own: the ports of one would not suffice for all that are still
/// closing, and a pile that calls from many places is taken for two.
struct Door {
    server: SocketAddr,
    number: u32,
    /// Of its piles, the one that comes back next ...
    known: u32,
    /// ... and the one that comes for the first time next.
    fresh: u32,
    first: bool,
}

impl Client for Door {
    async fn turn(&mut self) -> anyhow::Result<()> {
        let pile = if self.first {
            self.fresh += 1;
            self.fresh
        } else {
            self.known = (self.known + 1) % KNOWN;
            self.known
        };
        let pile_code: PileCode = format!("{:04}{pile:010}", self.number).parse()?;
        let login = bytes_of(login_of(pile_code))?;
        let accepted = bytes_of(LoginResponse { pile_code, result: LoginResult::Accepted })?;
        self.log_in(&login, &accepted).await.with_context(|| format!("pile {pile_code} did not log in"))
    }
}

impl Door {
    async fn log_in(&self, login: &BytesMut, accepted: &BytesMut) -> anyhow::Result<()> {
        let socket = TcpSocket::new_v4()?;
        let [high, low] = (self.number as u16).to_be_bytes();
        socket.bind((Ipv4Addr::new(127, 1, high, low), 0).into())?;
        let mut stream = socket.connect(self.server).await?;
        stream.set_nodelay(true)?;
        stream.write_all(login).await?;
        receive(&mut stream, accepted).await.context("0x01 was not answered with 0x02, accepted")
    }
}

/// Piles of each client that log in again and again.
const KNOWN: u32 = 40;
