//! Sessions of ipmitool's, replayed; a BMC on the loopback device that is not kind; and anybody's packets.

use super::{
    message::{BMC, CONSOLE, checksum},
    packet::{HEAD_LEN, RMCP, RMCP_PLUS, SEALED},
    *,
};
use proptest::prelude::*;

/// A session of ipmitool 1.8.19 with user admin, password lastwords: Open Session Response, RAKP messages 1 to 4,
/// a request and its answer.
type Capture = [&'static str; 7];

/// Against pyghmi 1.6.19's BMC, made to use SHA-256 where it uses SHA-1.
const SUITE_17: Capture = [
    "\
     0600ff0706110000000000000000240000000400a4a3a2a0802e475900000008030000000100000804000000020000080100\
     0000",
    "\
     0600ff0706120000000000000000210000000000802e4759c784c1088ab309dfcb737b423bcff5e71400000561646d696e",
    "\
     0600ff0706130000000000000000480000000000a4a3a2a0cfff9c479e7db05cdf34459d888b582a6c617374776f72647320\
     6f6e206461648a8d6b2b4c690fd59100d876871eb55a4bbea6e453f3729890c243dcc4726274",
    "\
     0600ff0706140000000000000000280000000000802e47592ada9a65fde2e3f04f217a69077f7614b366ddfb90bd1da03593\
     f83cc4fc3a79",
    "\
     0600ff0706150000000000000000180000000000a4a3a2a0895d7feac894f884cfc56b6c8516d2d6",
    "\
     0600ff0706c0802e47590500000020005fefe6ac476c422a6b23e15f86a33f4fc5254ef9bf9b67c776ea69372bde29c6ffff\
     02079299180dedb9edab106a0ca9f6d687e6",
    "\
     0600ff0706c0a4a3a2a0030000003000f79eaff7d9a185f47c096ab75ee3531e18d077ccfb5a5083555a36891977fd86e890\
     2e171846f477b70d0471e914a2e0ffff0207de63179fb4ad21fb00519dcf11231e0e",
];

/// Against OpenIPMI 2.0.33's ipmi_sim.
const SUITE_3: Capture = [
    "\
     0600ff0706110000000000000000240000000000a4a3a2a00203000000000008010000000100000801000000020000080100\
     0000",
    "\
     0600ff07061200000000000000002100000000000203000002a2a219e5b76c36162db84d7eba0d4d1400000561646d696e",
    "\
     0600ff07061300000000000000003c0000000000a4a3a2a00702c340b48d54614148eeb77153f3f06c617374776f72647320\
     206f6e20646164c5011392c8cbe0c9685a35aa80459ce48aa568",
    "\
     0600ff07061400000000000000001c000000000002030000e9f96b67ba5eba3988c6c927f6d70814726f8988",
    "\
     0600ff0706150000000000000000140000000000a4a3a2a0d59ddfdb6ed98c0bd3d2edfe",
    "\
     0600ff0706c00203000005000000200038b668460f4dcb02dc443f66cbd581eaa2e1d22c1a01e4e1d81e814c125abb7effff\
     02072ff5fa479e847645341f014f",
    "\
     0600ff0706c0a4a3a2a00300000030003e633625bb2a3ceb14e68daf1c7169da4be4aadc32ab7694d73e47d35c20bf7fce0e\
     f34b658985a97931d39db494036effff0207edf9c3e198955e77b87531f4",
];

fn bytes(hex: &str) -> Vec<u8> {
    hex.as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

fn array<const N: usize>(packet: &[u8], at: usize) -> [u8; N] {
    packet[at..at + N].try_into().unwrap()
}

#[test]
fn ipmitools_own_sessions() {
    for (suite, capture) in [(Suite::Sha256, SUITE_17), (Suite::Sha1, SUITE_3)] {
        let [opened, one, two, three, four, request, reply] = capture.map(bytes);
        let mut handshake = Handshake {
            suite,
            role: one[40],
            user: b"admin",
            password: b"lastwords",
            console_id: array(&opened, 20),
            bmc_id: array(&opened, 24),
            console_random: array(&one, 24),
            bmc_random: [0; 16],
            bmc_guid: [0; 16],
        };
        // From behind the tag, or the status, on.
        assert_eq!(one[17..], handshake.rakp_1());
        assert!(handshake.rakp_2(&two[18..]));
        assert_eq!(three[17..], handshake.rakp_3());
        assert!(handshake.rakp_4(&four[18..]));
        assert!(!handshake.rakp_4(&four[18..four.len() - 1]));

        let keys = Keys::new(suite, &handshake.sik());
        let [console, bmc] = [handshake.console_id, handshake.bmc_id].map(u32::from_le_bytes);
        let asked = keys.open(bmc, &request).expect("ipmitool's request");
        let sequence = u32::from_le_bytes(array(&request, 10));
        assert_eq!(keys.seal(bmc, sequence, &asked, array(&request, 16)), request);

        let own = Request { net_fn: NetFn(asked[1] >> 2), cmd: asked[5], data: &asked[6..asked.len() - 1] };
        let number = asked[4] >> 2;
        assert_eq!(message(own, number), asked);
        let opened = keys.open(console, &reply).expect("the BMC's answer");
        assert_eq!(answer(own, number, &opened).unwrap()[0], 0);
        assert_eq!(answer(own, number + 1, &opened), None);
        assert_eq!(answer(Request { cmd: own.cmd + 1, ..own }, number, &opened), None);

        handshake.password = b"lastword";
        assert!(!handshake.rakp_2(&two[18..]));
    }
}

/// A BMC with user `reader`, password `secret`, that supports this suite only. It hears every packet the second time,
/// where it `loses` them, and before each answer it sends what is none.
fn bmc(suite: Suite, loses: bool) -> Host {
    const ID: [u8; 4] = [9, 8, 7, 6];
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = socket.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let (guid, random) = ([3; 16], [4; 16]);
        let (mut console_id, mut console_random, mut role) = ([0; 4], [0; 16], 0);
        let mut sik = Vec::new();
        let mut heard = std::collections::BTreeSet::new();
        loop {
            let mut buffer = [0; PACKET_LEN];
            let (len, from) = socket.recv_from(&mut buffer).unwrap();
            let packet = &buffer[..len];
            let payload = &packet[HEAD_LEN..];
            if loses && heard.insert(packet[5]) {
                continue;
            }
            let hmac = |key: &[u8], parts: &[&[u8]]| suite.hmac(key, parts);
            let who: &[&[u8]] = &[&[role, 6], b"reader"];
            let answers = match packet[5] {
                payload::OPEN_SESSION_REQUEST => {
                    console_id = array(payload, 4);
                    let status = if payload[12] == suite.algorithms()[0] { 0 } else { 4 };
                    let head = [&[payload[0], status, 0, 0], &console_id[..], &ID].concat();
                    let answer = [&head[..], &payload[8..]].concat();
                    vec![super::packet(payload::OPEN_SESSION_RESPONSE, 0, 0, &answer)]
                }
                payload::RAKP_1 => {
                    (console_random, role) = (array(payload, 8), payload[24]);
                    let parts: [&[u8]; 7] =
                        [&console_id, &ID, &console_random, &random, &guid, &[role, 6], &payload[28..]];
                    let head = [&[payload[0], 0, 0, 0], &console_id[..], &random, &guid].concat();
                    let answer = [head, hmac(b"secret", &parts)].concat();
                    vec![super::packet(payload::RAKP_2, 0, 0, &answer)]
                }
                payload::RAKP_3 => {
                    assert_eq!(payload[8..], hmac(b"secret", &[&[&random, &console_id[..]], who].concat()));
                    sik = hmac(b"secret", &[&[&console_random, &random[..]], who].concat());
                    let code = hmac(&sik, &[&console_random, &ID, &guid]);
                    let answer = [&[payload[0], 0, 0, 0], &console_id[..], &code[..suite.cut()]].concat();
                    vec![super::packet(payload::RAKP_4, 0, 0, &answer)]
                }
                _ => {
                    let keys = Keys::new(suite, &sik);
                    let asked = keys.open(u32::from_le_bytes(ID), packet).unwrap();
                    // The answer has what was asked, and in which packet.
                    let answer = |number: u8, data: &[u8]| {
                        let mut message = vec![CONSOLE, asked[1] | 4];
                        message.push(checksum(&message));
                        message.extend([BMC, number, asked[5], 0]);
                        message.extend(data);
                        message.push(checksum(&message[3..]));
                        keys.seal(u32::from_le_bytes(console_id), 1, &message, [5; 16])
                    };
                    let stale = answer(asked[4].wrapping_sub(4), b"old");
                    vec![stale, answer(asked[4], &[&packet[10..11], &asked[6..asked.len() - 1]].concat())]
                }
            };
            socket.send_to(b"anybody's", from).unwrap();
            for answer in answers {
                let mut forged = answer.clone();
                *forged.last_mut().unwrap() ^= 1;
                // Only what is signed can be known to be forged.
                if answer[5] & 0xc0 != 0 {
                    socket.send_to(&forged, from).unwrap();
                }
                socket.send_to(&answer, from).unwrap();
            }
        }
    });
    Host { name: "127.0.0.1".to_owned(), port }
}

#[test]
fn a_session_from_its_opening_on() {
    for (suite, loses) in [(Suite::Sha256, false), (Suite::Sha1, false), (Suite::Sha256, true)] {
        let mut session = Session::open(&bmc(suite, loses), "reader", b"secret").unwrap();
        assert_eq!(session.keys.suite, suite);
        for number in 0..3 {
            let request = Request { net_fn: NetFn::STORAGE, cmd: 0x43, data: &[number, 7] };
            let answer = session.ask(request, Instant::now() + STEP).unwrap().unwrap();
            assert_eq!((answer[0], &answer[2..]), (0, &[number, 7][..]));
            // No packet has another one's number.
            assert_eq!(answer[1], session.sequence as u8);
        }

        // As core's `Bmc` uses it.
        let mut system = System::new(None);
        let mut timer = system.timer(None);
        let deadline = timer.within(5000);
        let wire = [NetFn::STORAGE.0 << 2, 0x43, 9, 7];
        let mut reply = [0; 40];
        let len = session.transfer(&mut system, &mut timer, &wire, &mut reply, deadline).unwrap();
        let sequence = session.sequence as u8;
        assert_eq!(reply[..len], [NetFn::STORAGE.response() << 2, 0x43, 0, sequence, 9, 7]);
        let short = session.transfer(&mut system, &mut timer, &wire, &mut reply[..5], deadline);
        assert_eq!(short, Err(TransferError::TooLong));
        timer.now(&mut system);
        let late = session.transfer(&mut system, &mut timer, &wire, &mut reply, 0);
        assert_eq!(late, Err(TransferError::Timeout));
    }
}

#[test]
fn a_refused_login_has_a_reason() {
    let host = bmc(Suite::Sha256, false);
    let wrong = Session::open(&host, "reader", b"guess").err().unwrap();
    assert_eq!(wrong.to_string(), format!("{host} refuses the login: {WRONG_PASSWORD}"));
    let long = Session::open(&host, "a name of 17 bytes", b"").err().unwrap();
    assert!(matches!(long, BmcError::Login(..)), "{long}");
    // Nobody listens there any more.
    let nobody = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let silent = Session::open(&Host { port: nobody, ..host }, "reader", b"secret").err().unwrap();
    assert!(matches!(silent, BmcError::NoAnswer(_)), "{silent}");
}

proptest! {
    #[test]
    fn what_is_sealed_is_opened_and_nothing_else(
        text in prop::collection::vec(any::<u8>(), 0..60),
        session: u32,
        sequence: u32,
        iv: [u8; 16],
        at: prop::sample::Index,
        change in 1u8..,
    ) {
        for suite in Suite::ALL {
            let keys = Keys::new(suite, b"key");
            let mut packet = keys.seal(session, sequence, &text, iv);
            prop_assert_eq!(keys.open(session, &packet), Some(text.clone()));
            prop_assert_eq!(keys.open(session ^ 1, &packet), None);
            let at = 4 + at.index(packet.len() - 4);
            packet[at] ^= change;
            prop_assert_eq!(keys.open(session, &packet), None);
        }
    }

    #[test]
    fn anybodys_packets_are_passed_over(packet in prop::collection::vec(any::<u8>(), 0..120)) {
        let request = Request { net_fn: NetFn::APP, cmd: 1, data: &[] };
        let _ = (contents(payload::RAKP_2, 0, &packet), answer(request, 0, &packet));
        for suite in Suite::ALL {
            let keys = Keys::new(suite, b"key");
            prop_assert_eq!(keys.open(0, &packet), None);
            // Signed all the same: by a BMC that makes mistakes.
            let mut signed = [&RMCP[..], &[RMCP_PLUS, SEALED], &[0; 8], &packet].concat();
            let code = suite.hmac(&keys.k1, &[&signed[4..]]);
            signed.extend(&code[..suite.cut()]);
            let _ = keys.open(0, &signed);
        }
        let mut handshake = Handshake {
            suite: Suite::Sha256,
            role: BY_NAME,
            user: b"",
            password: b"",
            console_id: [0; 4],
            bmc_id: [0; 4],
            console_random: [0; 16],
            bmc_random: [0; 16],
            bmc_guid: [0; 16],
        };
        prop_assert!(!handshake.rakp_2(&packet));
        prop_assert!(!handshake.rakp_4(&packet));
    }
}
