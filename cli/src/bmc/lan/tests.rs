//! Sessions of ipmitool's, replayed; a simulated BMC with the quirks of real ones; and anybody's packets.

use super::{
    handshake::{BY_NAME, Handshake, Proof},
    message::{answer, message},
    packet::{Keys, RMCP, RMCP_PLUS, SEALED, are_1_5_alone, contents, payload},
    simulated::{Lan, login},
    suite::Suite,
    *,
};
use crate::bmc::{Enough, Entry, SelList};
use lastwords_core::ipmi::{
    commands::{GetDeviceId, GetSelTime},
    message::NetFn,
};
use lastwords_sim::lan::{KG, LanBmc, Next, OwnIds, QUIRKS, Unreadable};
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
            kg: b"lastwords",
            console_id: array(&opened, 20),
            bmc_id: array(&opened, 24),
            console_random: array(&one, 24),
            bmc_random: [0; 16],
            bmc_guid: [0; 16],
        };
        // From behind the tag, or the status, on.
        assert_eq!(one[17..], handshake.rakp_1());
        assert_eq!(handshake.rakp_2(&two[18..]), Proof::Right);
        assert_eq!(handshake.rakp_2(&two[18..two.len() - 1]), Proof::Short);
        assert_eq!(three[17..], handshake.rakp_3());
        assert_eq!(handshake.rakp_4(&four[18..]), Proof::Right);
        assert_eq!(handshake.rakp_4(&four[18..four.len() - 1]), Proof::Short);

        let keys = Keys::new(suite, &handshake.sik());
        let [console, bmc] = [handshake.console_id, handshake.bmc_id].map(u32::from_le_bytes);
        let asked = keys.open(bmc, &request).expect("ipmitool's request");
        let sequence = u32::from_le_bytes(array(&request, 10));
        assert_eq!(keys.seal(bmc, sequence, &asked, array(&request, 16)), request);

        let own = Request { net_fn: NetFn(asked[1] >> 2), cmd: asked[5], data: &asked[6..asked.len() - 1] };
        let number = asked[4] >> 2;
        assert_eq!(message(own, number), asked);
        let opened = keys.open(console, &reply).expect("the BMC's answer");
        let (of, data) = answer(own, &opened).unwrap();
        assert_eq!((of, data[0]), (number, 0));
        assert_eq!(answer(Request { cmd: own.cmd + 1, ..own }, &opened), None);

        handshake.password = b"lastword";
        assert_eq!(handshake.rakp_2(&two[18..]), Proof::Wrong);
    }
}

/// Records that can be told apart.
fn sel(len: u16) -> Vec<[u8; 16]> {
    let record = |at: u16| {
        let mut record = *b"\0\0\xf0\0\xffa record...";
        record[12..14].copy_from_slice(&at.to_le_bytes());
        record
    };
    (1..=len).map(record).collect()
}

/// The BMC with this quirk.
fn quirky(len: u16, name: &str) -> LanBmc {
    let mut bmc = LanBmc::new(sel(len));
    QUIRKS.iter().find(|(known, _)| *known == name).expect("a quirk").1(&mut bmc);
    bmc
}

const LIMIT: Duration = Duration::from_secs(600);

/// Reads its SEL within this time.
fn read_within(lan: &Lan, login: Login, limit: Duration) -> Result<SelList, BmcError> {
    lan.connect_as(login, limit)?.read_sel(None)
}

fn read(lan: &Lan) -> SelList {
    read_within(lan, login(), LIMIT).unwrap()
}

/// Which records of `sel` these are.
fn which(list: &SelList) -> Vec<u16> {
    list.entries.iter().map(|entry| u16::from_le_bytes([entry.record[12], entry.record[13]])).collect()
}

#[test]
fn with_each_quirk_all_is_read_that_the_bmc_shows_and_in_no_more_round_trips_than_there_are_records_and_12() {
    for (name, _) in QUIRKS {
        let bmc = quirky(20, name);
        // These ask for more than once is enough for the others.
        let is_silent = bmc.unreadable.is_some_and(|(_, how)| how == Unreadable::Silent);
        let is_slow =
            is_silent || bmc.loss > 0 || bmc.delay > 0 || bmc.full_until > 0 || bmc.dies_after.is_some();
        let is_cancelled = bmc.cancels_every.is_some();
        // A status that is not for suite 17 alone lets nobody in.
        let refuses_all = bmc.rakp_4_status > 0 && !bmc.refuses_sha256;
        if bmc.ipmi_15 || refuses_all || bmc.user != login().user {
            continue;
        }
        let (kg, refuses) = ((!bmc.kg.is_empty()).then(|| KG.to_vec()), u32::from(bmc.refuses_sha256));
        let lan = Lan::new(bmc);
        let list = read_within(&lan, Login { kg, ..login() }, LIMIT)
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        let (unreadable, count) = lan.bmc(|bmc| (bmc.unreadable.map(|(at, _)| at as u16), bmc.count));
        let expected: Vec<_> = (1..=20).filter(|at| Some(*at) != unreadable).collect();
        assert_eq!(which(&list), expected, "{name}");
        let count = count.unwrap_or(20);
        let missing = usize::from(count.saturating_sub(expected.len() as u16));
        assert_eq!((list.count, list.missing()), (Some(count), missing), "{name}");
        assert!(list.ended_by.is_none(), "{name}");
        let heard = lan.bmc(|bmc| bmc.heard);
        assert!(is_slow || is_cancelled || heard <= 20 + 12, "{name}: {heard} round trips");
        assert_eq!(lan.bmc(|bmc| bmc.refused), refuses, "{name}");
    }
}

#[test]
fn where_two_quirks_meet_nothing_is_doubled_and_what_is_missing_is_counted() {
    let own_ids = [OwnIds::Right, OwnIds::FirstTwice, OwnIds::Senders, OwnIds::OffByOne];
    let unreadable = [Unreadable::Code(0xff), Unreadable::Code(0xcb), Unreadable::Short];
    let next = [Next::Itself, Next::Back, Next::Zero];
    for (own_ids, place) in own_ids.into_iter().flat_map(|ids| [1, 2, 3, 10, 20].map(|place| (ids, place))) {
        let read = |change: &dyn Fn(&mut LanBmc)| {
            let mut bmc = LanBmc::new(sel(20));
            bmc.own_ids = own_ids;
            change(&mut bmc);
            read(&Lan::new(bmc))
        };
        for how in unreadable {
            let list = read(&|bmc| bmc.unreadable = Some((place, how)));
            let expected: Vec<_> = (1..=20).filter(|at| usize::from(*at) != place).collect();
            assert_eq!((which(&list), list.missing()), (expected, 1), "{own_ids:?} {how:?} at {place}");
        }
        for wrong in next {
            let list = read(&|bmc| bmc.next = Some((place, wrong)));
            let mut found = which(&list);
            found.dedup();
            assert_eq!(found, which(&list), "{own_ids:?} {wrong:?} at {place}");
            assert_eq!(found.len() + list.missing(), 20, "{own_ids:?} {wrong:?} at {place}: {found:?}");
        }
    }
}

#[test]
fn a_session_from_its_opening_on() {
    for (name, trips) in [("none", 3), ("suite 17 refused with 0x12", 4)] {
        let lan = Lan::new(quirky(3, name));
        let mut bmc = lan.connect(LIMIT).unwrap();
        assert_eq!(lan.bmc(|bmc| bmc.heard), trips + 1, "{name}");
        assert_eq!(bmc.send(&GetDeviceId).unwrap().firmware, (9, 8));
        assert_eq!(bmc.send(&GetSelTime).unwrap(), 0x6a00_0000);
        drop(bmc);
        // It closes the session: five others have room.
        for _ in 0..5 {
            drop(lan.connect(LIMIT).unwrap());
        }
        assert_eq!(lan.bmc(|bmc| bmc.heard), 6 * (trips + 2) + 2, "{name}");
    }
}

#[test]
fn a_login_that_is_refused_is_never_tried_again_and_has_a_reason() {
    let refused = |bmc: LanBmc, login: Login| {
        let lan = Lan::new(bmc);
        let error = lan.connect_as(login, LIMIT).err().expect("no session").to_string();
        let (refused, rakp_3s) = lan.bmc(|bmc| (bmc.refused, bmc.rakp_3s));
        assert!(refused <= 1 && rakp_3s <= 1, "{error}: {refused} refused logins");
        assert!(lan.elapsed() < Duration::from_secs(5), "{error}: {:?}", lan.elapsed());
        (error, rakp_3s)
    };
    let none = || quirky(1, "none");
    let wrong = Login { password: b"guess".to_vec(), ..login() };
    // The password's code does not go out to one that does not know it.
    assert_eq!(refused(none(), wrong.clone()), ("bmc refuses the login: wrong password".to_owned(), 0));
    let nobody = Login { user: b"nobody".to_vec(), ..login() };
    let user = "bmc refuses the login: wrong user (RAKP status 0x0d, Unauthorized name)".to_owned();
    assert_eq!(refused(none(), nobody.clone()), (user.clone(), 0));
    assert_eq!(refused(LanBmc { errors_without_tag: true, ..none() }, nobody), (user, 0));
    let (kg, _) = refused(quirky(1, "Kg set"), login());
    assert!(kg.contains("accepts the password") && kg.contains("--kg-file"), "{kg}");
    let code = "bmc refuses the login: RAKP status 0x0f, Invalid integrity check value".to_owned();
    assert_eq!(refused(LanBmc { rakp_4_status: 0x0f, ..none() }, login()), (code, 1));
    let (only, _) = refused(quirky(1, "IPMI 1.5 alone"), login());
    assert!(only.contains("IPMI 1.5 only") && only.contains("ipmitool -I lan -H bmc"), "{only}");
    assert!(only.contains("lastwords read on the server") && only.contains("--redfish https://"), "{only}");

    let host = Host { name: "bmc".to_owned(), port: 623 };
    let long = Login { user: b"a name of 17 bytes".to_vec(), ..login() };
    let long = open(&host, &long, LIMIT).err().unwrap();
    assert!(matches!(long, BmcError::TooLong("user's name", 18, 16)), "{long}");
    // Nobody listens there any more.
    let nobody = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let host = Host { name: "127.0.0.1".to_owned(), port: nobody };
    let silent = open(&host, &login(), LIMIT).err().unwrap();
    assert!(matches!(silent, BmcError::NoAnswer(_)), "{silent}");
}

#[test]
fn the_status_that_ends_a_login_is_told_by_its_name_and_a_login_is_tried_once() {
    for status in 1..=0x13 {
        let bmc = LanBmc { rakp_4_status: status, ..quirky(1, "none") };
        let lan = Lan::new(bmc);
        let error = lan.connect(LIMIT).err().expect("no session").to_string();
        assert!(error.contains(&Status(status).to_string()), "{status:#04x}: {error}");
        // What is said of an algorithm may be of suite 17 alone.
        let logins = if matches!(status, 0x03..=0x07 | 0x10 | 0x11) { 2 } else { 1 };
        assert_eq!(lan.bmc(|bmc| bmc.rakp_3s), logins, "{status:#04x}");
        assert!(lan.elapsed() < Duration::from_secs(1), "{status:#04x}: {:?}", lan.elapsed());

        let lan = Lan::new(LanBmc { rakp_2_status: status, ..quirky(1, "none") });
        let error = lan.connect(LIMIT).err().expect("no session").to_string();
        assert!(error.contains(&Status(status).to_string()), "{status:#04x}: {error}");
        let is_full = matches!(status, 0x01 | 0x0b);
        assert!(is_full || lan.bmc(|bmc| bmc.heard) <= 6, "{status:#04x}");
        assert_eq!(lan.bmc(|bmc| bmc.rakp_3s), 0, "{status:#04x}");
    }
    let lan = Lan::new(quirky(1, "RAKP 4 with status 0x02"));
    let error = lan.connect(LIMIT).err().expect("no session").to_string();
    assert_eq!(error, "bmc refuses the login: RAKP status 0x02, Invalid Session ID");
}

#[test]
fn a_suite_that_is_refused_late_is_refused() {
    for status in [0x03, 0x04, 0x05, 0x06, 0x07, 0x10, 0x11] {
        for (two, four) in [(status, 0), (0, status)] {
            let bmc = LanBmc { refuses_sha256: true, rakp_2_status: two, ..quirky(3, "none") };
            let lan = Lan::new(LanBmc { rakp_4_status: four, ..bmc });
            assert_eq!(which(&read(&lan)), [1, 2, 3], "{two:#04x} {four:#04x}");
            assert!(lan.elapsed() < Duration::from_secs(1), "{:?}", lan.elapsed());
        }
    }
}

#[test]
fn a_record_that_is_never_answered_costs_half_a_minute_and_no_other_record() {
    let from_end: &mut Enough<'_> = &mut |_: &[Entry]| false;
    for (place, is_from_end) in [1, 2, 10, 19, 20].into_iter().flat_map(|at| [(at, false), (at, true)]) {
        let unreadable = Some((place, Unreadable::Silent));
        let lan = Lan::new(LanBmc { unreadable, ..quirky(20, "none") });
        let list = lan.connect(LIMIT).unwrap().read_sel(is_from_end.then_some(&mut *from_end)).unwrap();
        let expected: Vec<_> = (1..=20).filter(|at| usize::from(*at) != place).collect();
        assert_eq!((which(&list), list.missing()), (expected, 1), "{place}");
        assert!(list.ended_by.is_none());
        // The first and the last one have two ids.
        assert!(lan.elapsed() < Duration::from_secs(30), "{place}: {:?}", lan.elapsed());
        assert_eq!(lan.bmc(|bmc| bmc.rakp_3s), 1, "{place}");
    }
}

#[test]
fn a_bmc_that_starts_its_service_again_is_waited_for() {
    for (from, back) in [(500, 5_000), (700, 20_000), (1500, 40_000)] {
        let bmc = LanBmc { delay: 10, gone_from: Some(from), back_at: Some(back), ..quirky(200, "none") };
        let lan = Lan::new(bmc);
        assert_eq!(which(&read(&lan)), (1..=200).collect::<Vec<_>>(), "{back}");
    }
}

/// Two ports of the loopback address, and the one a link to the other.
fn udp() -> (UdpSocket, Udp) {
    let there = UdpSocket::bind("127.0.0.1:0").unwrap();
    let here = Udp::connect(there.local_addr().unwrap()).unwrap();
    (there, here)
}

#[test]
fn where_somebody_was_nobody_is_silence_and_where_nobody_was_an_error() {
    let (there, mut here) = udp();
    let (mut buffer, address) = ([0; 8], there.local_addr().unwrap());
    let soon = |here: &mut Udp| here.now() + Duration::from_millis(20);
    here.send(b"a").unwrap();
    let (_, from) = there.recv_from(&mut buffer).unwrap();
    there.send_to(b"b", from).unwrap();
    let until = here.now() + LIMIT;
    assert_eq!(here.receive(&mut buffer, until).unwrap(), Some(1));
    drop(there);
    for _ in 0..3 {
        here.send(b"c").unwrap();
        let until = soon(&mut here);
        assert_eq!(here.receive(&mut buffer, until).unwrap(), None);
    }
    here.send(b"d").unwrap();
    let there = UdpSocket::bind(address).unwrap();
    // The first one to it is not lost for what the one before found; where it is, the test ends all the same.
    there.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    here.send(b"e").unwrap();
    assert_eq!((there.recv_from(&mut buffer).unwrap(), buffer[0]), ((1, from), b'e'));

    let (there, mut here) = udp();
    drop(there);
    here.send(b"a").unwrap();
    let until = here.now() + LIMIT;
    let error = here.receive(&mut buffer, until).unwrap_err();
    assert_eq!(error.kind(), ConnectionRefused);
}

#[test]
fn a_bmc_that_refuses_us_in_the_middle_is_not_asked_again() {
    let lan = Lan::new(quirky(3, "none"));
    let mut bmc = lan.connect(LIMIT).unwrap();
    lan.bmc(|bmc| (bmc.dies_after, bmc.rakp_4_status) = (Some(1), 0x0f));
    for _ in 0..3 {
        assert!(bmc.send(&GetDeviceId).is_err());
    }
    assert_eq!(lan.bmc(|bmc| bmc.refused), 1);
}

#[test]
fn what_is_behind_a_record_that_cannot_be_read_is_found_where_the_ids_in_the_records_are_the_senders() {
    for unreadable in [Unreadable::Short, Unreadable::Code(0xff), Unreadable::Code(0xcb)] {
        let own_ids = OwnIds::Senders;
        let lan = Lan::new(LanBmc { own_ids, unreadable: Some((5, unreadable)), ..quirky(9, "none") });
        assert_eq!(which(&read(&lan)), [1, 2, 3, 4, 6, 7, 8, 9]);
    }
}

#[test]
fn a_code_that_proves_nothing_brings_no_code_of_the_passwords() {
    // Of one byte, one in 256 is right.
    for cut in [0, 1, 16, 19, 31] {
        for seed in 0..if cut == 1 { 600 } else { 1 } {
            let lan = Lan::new(LanBmc { rakp_2_cut: Some(cut), ..quirky(1, "none") }.seeded(seed));
            assert!(lan.connect(LIMIT).is_err());
            assert_eq!(lan.bmc(|bmc| bmc.rakp_3s), 0, "{cut} bytes");
        }
    }
}

#[test]
fn one_that_is_not_there_is_given_up_after_half_a_minute() {
    let lan = Lan::new(LanBmc { gone_from: Some(0), ..quirky(1, "none") });
    assert!(matches!(lan.connect(LIMIT).err(), Some(BmcError::NoAnswer(_))));
    assert!(lan.elapsed() <= Duration::from_secs(30), "{:?}", lan.elapsed());
    let lan = Lan::new(LanBmc { gone_from: Some(0), ..quirky(1, "none") });
    assert!(lan.connect(Duration::from_secs(4)).is_err());
    assert!(lan.elapsed() <= Duration::from_secs(4), "{:?}", lan.elapsed());
}

#[test]
fn what_was_read_is_kept_when_the_bmc_goes_or_the_time_is_over() {
    for (mut bmc, limit) in [
        (quirky(200, "none"), LIMIT),
        (quirky(200, "answers take 5 s"), Duration::from_secs(300)),
        (quirky(200, "half of all packets lost"), Duration::from_secs(300)),
    ] {
        if bmc.delay == 0 && bmc.loss == 0 {
            (bmc.gone_from, bmc.delay) = (Some(1000), 10);
        }
        let lan = Lan::new(bmc);
        let list = read_within(&lan, login(), limit).unwrap();
        let read = which(&list);
        assert!(read.len() > 10 && read == (1..=read.len() as u16).collect::<Vec<_>>(), "{read:?}");
        assert_eq!((list.count, list.missing()), (Some(200), 200 - read.len()));
        assert!(matches!(list.ended_by, Some(BmcError::Silent(_))), "{:?}", list.ended_by);
        // One packet more closes the session.
        assert!(lan.elapsed() <= limit + Duration::from_millis(1), "{:?}", lan.elapsed());
    }
}

#[test]
fn under_heavy_loss_a_log_is_read_whichever_packets_are_lost() {
    let mut whole = 0;
    for seed in 0..100 {
        let lan = Lan::new(quirky(10, "half of all packets lost").seeded(seed));
        let result = read_within(&lan, login(), LIMIT);
        assert!(lan.elapsed() <= LIMIT + Duration::from_millis(1));
        assert_eq!(lan.bmc(|bmc| bmc.refused), 0, "{seed}");
        // What it does not say is wrong in no case.
        if let Ok(list) = &result {
            let read = which(list);
            assert_eq!(read, (1..=10).take(read.len()).collect::<Vec<_>>(), "{seed}");
            whole += usize::from(read.len() == 10);
            assert!(read.len() == 10 || list.ended_by.is_some(), "{seed}");
        }
    }
    assert!(whole >= 95, "{whole} of 100");
}

/// Copies of a request that is answered late take a BMC's sessions, or stand before the next one's.
#[test]
fn of_a_bmc_that_answers_too_late_nobody_says_that_its_address_is_wrong() {
    for (delay, loss, limit) in [(5_000, 0, 12), (5_000, 50, 20)] {
        let lan = Lan::new(LanBmc { delay, loss, ..quirky(1, "none") });
        let error = lan.connect(Duration::from_secs(limit)).err().map(|error| error.to_string());
        let error = error.expect("no session");
        assert!(error.contains("too slowly") && error.contains("--timeout"), "{delay} {loss}: {error}");
    }
}

#[test]
fn a_slow_bmc_without_a_free_session_is_read_when_it_has_one() {
    for full_until in [20_000, 40_000, 60_000] {
        let lan = Lan::new(LanBmc { delay: 5_000, full_until, ..quirky(10, "none") });
        let list = read_within(&lan, login(), LIMIT).unwrap();
        assert_eq!(which(&list), (1..=10).collect::<Vec<_>>(), "{full_until} ms: {:?}", lan.elapsed());
        assert!(lan.elapsed() <= Duration::from_millis(full_until + 120_000), "{:?}", lan.elapsed());
    }
}

#[test]
fn a_hostile_bmc_costs_no_more_than_the_time_that_it_is_given() {
    // A SEL without an end, and before each answer what is none.
    for floods in [false, true] {
        let lan = Lan::new(LanBmc { endless: true, floods, delay: 5, ..quirky(1, "none") });
        let limit = Duration::from_secs(if floods { 10 } else { 600 });
        let list = read_within(&lan, login(), limit).unwrap();
        assert!(lan.elapsed() <= limit && u16::try_from(list.entries.len()).is_ok());
    }
}

#[test]
fn an_answer_that_is_sent_again_is_taken_once() {
    // Request numbers come round after 64.
    for name in ["answers repeated", "packets in the session not counted"] {
        let lan = Lan::new(LanBmc { replays: true, ..quirky(200, name) });
        assert_eq!(which(&read(&lan)), (1..=200).collect::<Vec<_>>(), "{name}");
    }
}

#[test]
fn as_core_uses_it_an_answer_too_long_and_a_time_that_is_over_are_errors() {
    let lan = Lan::new(quirky(3, "none"));
    let mut session = lan.open(login(), LIMIT).unwrap();
    let mut system = System::new(None);
    let mut timer = system.timer(None);
    let deadline = timer.within(5000);
    let wire = [NetFn::STORAGE.0 << 2, 0x48];
    let mut reply = [0; 40];
    let len = session.transfer(&mut system, &mut timer, &wire, &mut reply, deadline).unwrap();
    assert_eq!(reply[..len], [NetFn::STORAGE.response() << 2, 0x48, 0, 0, 0, 0, 0x6a]);
    let short = session.transfer(&mut system, &mut timer, &wire, &mut reply[..5], deadline);
    assert_eq!(short, Err(TransferError::TooLong));
    timer.now(&mut system);
    let late = session.transfer(&mut system, &mut timer, &wire, &mut reply, 0);
    assert_eq!(late, Err(TransferError::Timeout));
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
        let _ = (contents(payload::RAKP_2, 0, &packet), answer(request, &packet), are_1_5_alone(&packet));
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
            kg: b"",
            console_id: [0; 4],
            bmc_id: [0; 4],
            console_random: [0; 16],
            bmc_random: [0; 16],
            bmc_guid: [0; 16],
        };
        prop_assert_ne!(handshake.rakp_2(&packet), Proof::Right);
        prop_assert_ne!(handshake.rakp_4(&packet), Proof::Right);
    }
}
