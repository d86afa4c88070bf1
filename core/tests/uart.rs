//! Where a UART is, as parameters name it, and its transmitter against a simulated one.

use lastwords_core::budget::Timer;
use lastwords_core::device::uart::{Serial, Uart};
use lastwords_sim::Sim;

#[test]
fn a_uart_is_named_as_it_is_read() {
    for (text, reserved) in [
        ("ttyS0", false),
        ("ttyS3", false),
        ("0x1000", false),
        ("mmio:0xfe001000", false),
        ("mmio32:0xfe001000", false),
        ("0x5c", true),
        ("0x68", true),
        ("0xd9", true),
        ("0xe0", false),
    ] {
        let serial = Serial::parse(text).unwrap();
        assert_eq!(serial.to_string(), text);
        assert_eq!(Serial { baud: Some(9600), ..serial }.to_string(), format!("{text},9600"));
        assert_eq!(serial.is_reserved(), reserved, "{text}");
    }
}

#[test]
fn a_line_speed_is_what_a_divisor_of_sixteen_bits_gives() {
    for (text, baud) in [
        ("115200", Some(115_200)),
        ("9600", Some(9600)),
        ("2", Some(2)),
        ("1", None),
        ("0", None),
        ("7", None),
        ("230400", None),
    ] {
        assert_eq!(Serial::parse_baud(text), baud, "{text}");
    }
}

#[test]
fn a_uart_that_takes_nothing_is_left_alone_after_the_second_byte() {
    let mut sim = Sim::default();
    sim.uart.byte_us = u64::MAX;
    let mut timer = Timer::start(&mut sim, Some(2_400_000), 60_000);
    let mut uart = Uart::new(Serial::parse("ttyS0").unwrap());
    assert!(uart.begin(&mut sim));
    let began = sim.time_us;
    assert!(!uart.send(&mut sim, &mut timer, b"Oops: 0000"));
    let ms = (sim.time_us - began) / 1000;
    assert!((199..210).contains(&ms), "{ms}");
    assert_eq!(sim.uart.sent, b"O");
}
