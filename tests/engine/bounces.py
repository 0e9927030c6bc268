"""Delivery status notifications as other servers write them: their shapes, with facts of our own."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Bounced:
    """What a report is about: a message that left us as `id`."""

    id: str = "06h0kps6aaaaaaaa"
    hostname: str = "gate.example.com"
    sender: str = "info@example.com"
    recipient: str = "bob@customer.example"
    message_id: str = "<2@example.com>"
    action: str = "failed"
    status: str = "5.1.1"
    said: str = "550 5.1.1 <bob@customer.example>: Recipient address rejected"
    envid: str | None = None

    @property
    def header(self) -> str:
        """The header of the message, as it left us."""
        return (
            f"Received: from exchange.example.com ([192.0.2.9]) by {self.hostname} (mailgate)\n\twith ESMTP"
            f" id {self.id} for <{self.recipient}>;\n\tSun, 1 Mar 2026 12:00:00 +0000\n"
            f"From: Info <{self.sender}>\nTo: {self.recipient}\nSubject: Offer 4712\n"
            f"Message-ID: {self.message_id}\nContent-Type: text/plain\n"
        )


def postfix(about: Bounced) -> bytes:
    envid = f"Original-Envelope-Id: {about.envid}\n" if about.envid else ""
    return _lines(f"""\
Return-Path: <>
Received: by mx.customer.example (Postfix)
	id 4B5C61F3A2; Sun,  1 Mar 2026 12:00:05 +0000 (UTC)
Date: Sun,  1 Mar 2026 12:00:05 +0000 (UTC)
From: MAILER-DAEMON@mx.customer.example (Mail Delivery System)
Subject: Undelivered Mail Returned to Sender
To: {about.sender}
Auto-Submitted: auto-replied
MIME-Version: 1.0
Content-Type: multipart/report; report-type=delivery-status;
	boundary="4B5C61F3A1.1772366405/mx.customer.example"
Content-Transfer-Encoding: 8bit
Message-Id: <20260301120005.4B5C61F3A2@mx.customer.example>

This is a MIME-encapsulated message.

--4B5C61F3A1.1772366405/mx.customer.example
Content-Description: Notification
Content-Type: text/plain; charset=utf-8

Your mail to {about.recipient} came to this end: {about.said}

--4B5C61F3A1.1772366405/mx.customer.example
Content-Description: Delivery report
Content-Type: message/delivery-status

Reporting-MTA: dns; mx.customer.example
{envid}X-Postfix-Queue-ID: 4B5C61F3A1
X-Postfix-Sender: rfc822; {about.sender}
Arrival-Date: Sun,  1 Mar 2026 12:00:01 +0000 (UTC)

Final-Recipient: rfc822; {about.recipient}
Original-Recipient: rfc822;{about.recipient}
Action: {about.action}
Status: {about.status}
Remote-MTA: dns; store.customer.example
Diagnostic-Code: smtp; {about.said}

--4B5C61F3A1.1772366405/mx.customer.example
Content-Description: Undelivered Message Headers
Content-Type: text/rfc822-headers
Content-Transfer-Encoding: 8bit

Return-Path: <{about.sender}>
Received: from gate.example.com (gate.example.com [192.0.2.1])
	by mx.customer.example (Postfix) with ESMTPS id 4B5C61F3A1
	for <{about.recipient}>; Sun,  1 Mar 2026 12:00:01 +0000 (UTC)
{about.header}
--4B5C61F3A1.1772366405/mx.customer.example--
""")


def exim(about: Bounced) -> bytes:
    return _lines(f"""\
Return-path: <>
Received: from Debian-exim by mx.customer.example with local (Exim 4.96)
	id 1rx0Qh-000A1c-2b
	for {about.sender};
	Sun, 01 Mar 2026 12:00:07 +0000
X-Failed-Recipients: {about.recipient}
Auto-Submitted: auto-replied
From: Mail Delivery System <Mailer-Daemon@mx.customer.example>
To: {about.sender}
Content-Type: multipart/report; report-type=delivery-status; boundary=1772366407-eximdsn-804289383
MIME-Version: 1.0
Subject: Mail delivery failed: returning message to sender
Message-Id: <E1rx0Qh-000A1c-2b@mx.customer.example>
Date: Sun, 01 Mar 2026 12:00:07 +0000

--1772366407-eximdsn-804289383
Content-type: text/plain; charset=us-ascii

  {about.recipient}
    host store.customer.example [198.51.100.7]
    {about.said}

--1772366407-eximdsn-804289383
Content-type: message/delivery-status

Reporting-MTA: dns; mx.customer.example

Action: {about.action}
Final-Recipient: rfc822;{about.recipient}
Status: {about.status[0]}.0.0
Remote-MTA: dns; store.customer.example
Diagnostic-Code: smtp; {about.said}

--1772366407-eximdsn-804289383
Content-type: message/rfc822

Return-path: <{about.sender}>
Received: from gate.example.com ([192.0.2.1])
	by mx.customer.example with esmtps (TLS1.3) (Exim 4.96)
	id 1rx0Qf-000A1a-1x; Sun, 01 Mar 2026 12:00:05 +0000
{about.header}
The offer you asked for.

--1772366407-eximdsn-804289383--
""")


def exchange(about: Bounced) -> bytes:
    return _lines(f"""\
MIME-Version: 1.0
From: <postmaster@customer.example>
To: <{about.sender}>
Date: Sun, 1 Mar 2026 12:00:06 +0000
Content-Type: multipart/report; report-type=delivery-status;
	boundary="6f2b1c9e-5a44-4a0c-9d0e-0c6d0a5b7e11"
Content-Language: en-US
Message-ID: <5cf3d9a8-0c86-4b0e-8f2e-6a7a2fd8ad0e@EX01.customer.example>
In-Reply-To: {about.message_id}
References: {about.message_id}
Subject: Undeliverable: Offer 4712
Auto-Submitted: auto-replied

--6f2b1c9e-5a44-4a0c-9d0e-0c6d0a5b7e11
Content-Type: multipart/alternative; differences=Content-Type;
	boundary="b1d4a6d3-3c0e-41c1-8f0f-2f4b4d6b9a55"

--b1d4a6d3-3c0e-41c1-8f0f-2f4b4d6b9a55
Content-Type: text/plain; charset="us-ascii"
Content-Transfer-Encoding: quoted-printable

{about.recipient} could not be reached.

--b1d4a6d3-3c0e-41c1-8f0f-2f4b4d6b9a55
Content-Type: text/html; charset="us-ascii"
Content-Transfer-Encoding: quoted-printable

<html><body><p style=3D"x">{about.recipient} could not be reached.</p></body></html>

--b1d4a6d3-3c0e-41c1-8f0f-2f4b4d6b9a55--

--6f2b1c9e-5a44-4a0c-9d0e-0c6d0a5b7e11
Content-Type: message/delivery-status

Reporting-MTA: dns;EX01.customer.example
Received-From-MTA: dns;gate.example.com
Arrival-Date: Sun, 1 Mar 2026 12:00:02 +0000

Final-Recipient: rfc822;{about.recipient}
Action: {about.action}
Status: {about.status}
Diagnostic-Code: smtp;{about.said}

--6f2b1c9e-5a44-4a0c-9d0e-0c6d0a5b7e11
Content-Type: message/rfc822

Received: from EX02.customer.example (10.0.0.2) by EX01.customer.example
 (10.0.0.1) with Microsoft SMTP Server; Sun, 1 Mar 2026 12:00:02 +0000
{about.header}
--6f2b1c9e-5a44-4a0c-9d0e-0c6d0a5b7e11--
""")


def gmail(about: Bounced) -> bytes:
    return _lines(f"""\
Delivered-To: {about.sender}
Return-Path: <>
Content-Type: multipart/report; boundary="000000000000a1b2c3062f1d4e5f"; report-type=delivery-status
To: {about.sender}
Auto-Submitted: auto-replied
Subject: Delivery Status Notification (Failure)
References: {about.message_id}
In-Reply-To: {about.message_id}
From: Mail Delivery Subsystem <mailer-daemon@mail.provider.example>
Date: Sun, 01 Mar 2026 04:00:06 -0800 (PST)

--000000000000a1b2c3062f1d4e5f
Content-Type: multipart/related; boundary="000000000000a1b2d5062f1d4e61"

--000000000000a1b2d5062f1d4e61
Content-Type: text/plain; charset="UTF-8"

Address not found

--000000000000a1b2d5062f1d4e61--
--000000000000a1b2c3062f1d4e5f
Content-Type: message/delivery-status

Reporting-MTA: dns; mail.provider.example
Received-From-MTA: dns; {about.sender}
Arrival-Date: Sun, 01 Mar 2026 04:00:05 -0800 (PST)
X-Original-Message-ID: {about.message_id}

Final-Recipient: rfc822; {about.recipient}
Action: {about.action}
Status: {about.status}
Remote-MTA: dns; store.customer.example. (198.51.100.7, the server for the domain.)
Diagnostic-Code: smtp; {about.said}
Last-Attempt-Date: Sun, 01 Mar 2026 04:00:06 -0800 (PST)


--000000000000a1b2c3062f1d4e5f
Content-Type: message/rfc822

{about.header}
----- Message truncated -----

--000000000000a1b2c3062f1d4e5f--
""")


SHAPES = (postfix, exim, exchange, gmail)


def _lines(text: str) -> bytes:
    return text.replace("\n", "\r\n").encode()
