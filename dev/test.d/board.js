// Looks at a page of board(), for dev/test board: `page` is its source, `widths`
// are those to try, `pictures` are screenshots as data URLs by their names.

const found = {};

// What HTML's parser makes of the source must be what XML's does: HTML repairs
// what is wrong, and so comes to another tree.
function outline(node, lines) {
	if (node.nodeType === Node.TEXT_NODE) {
		if (node.data.trim() !== '')
			lines.push('text ' + node.data.trim());
	} else if (node.nodeType === Node.ELEMENT_NODE) {
		const attributes = [...node.attributes].map(a => a.name + '=' + a.value).sort();
		lines.push(node.namespaceURI + ' ' + node.localName + ' ' + attributes.join(' '));
		for (const child of node.childNodes)
			outline(child, lines);
		lines.push('end');
	}
	return lines;
}

function compareTrees() {
	const xml = new DOMParser().parseFromString(page, 'application/xhtml+xml');
	const html = new DOMParser().parseFromString(page, 'text/html');
	const error = xml.querySelector('parsererror');
	found.xml_error = error === null ? null : error.textContent;
	const expected = outline(xml.documentElement, []);
	const actual = outline(html.documentElement, []);
	const at = expected.findIndex((line, i) => line !== actual[i]);
	found.difference = at < 0 && expected.length === actual.length ? null :
		[expected[at], actual[at]];
}

// Without the policy that forbids scripts, which would hide what is not escaped.
async function load(width) {
	const frame = document.createElement('iframe');
	frame.style.cssText = `width: ${width}px; height: 800px; border: 0`;
	const loaded = new Promise(done => frame.onload = done);
	frame.srcdoc = page.replace(/<meta http-equiv="Content-Security-Policy"[^>]*>/, '');
	document.body.append(frame);
	await loaded;
	return frame;
}

function texts(root) {
	const walker = root.createTreeWalker(root.body, NodeFilter.SHOW_TEXT);
	const all = [];
	while (walker.nextNode()) {
		const box = root.createRange();
		box.selectNodeContents(walker.currentNode);
		const element = walker.currentNode.parentElement;
		if (walker.currentNode.data.trim() !== '' && element.closest('title, style') === null &&
			box.getClientRects().length > 0)
			all.push(element);
	}
	return [...new Set(all)];
}

function luminance(colour) {
	const [r, g, b] = colour.match(/[\d.]+/g).map(v => v / 255)
		.map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
	return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}

function contrast(one, other) {
	const [dark, bright] = [luminance(one), luminance(other)].sort((a, b) => a - b);
	return (bright + 0.05) / (dark + 0.05);
}

// The texts and shapes that are too much like what is behind them.
function faint(root) {
	const view = root.defaultView;
	const style = element => view.getComputedStyle(element);
	const background = style(root.body).backgroundColor;
	const told = (element, ratio) => `${element.closest('[class]')?.getAttribute('class')}: ${ratio.toFixed(2)}`;
	found.faint = [];
	found.faint_shapes = [];
	for (const element of texts(root)) {
		const drawn = element instanceof view.SVGElement;
		// The label of a bar is on the bar; a failed one's has an edge of its own.
		const bar = element.closest('.bar:not(.failed)');
		const behind = bar === null ? background : style(bar.querySelector('rect')).fill;
		const ratio = contrast(drawn ? style(element).fill : style(element).color, behind);
		if (ratio < 4.5)
			found.faint.push(told(element, ratio));
	}
	for (const element of root.querySelectorAll('rect.refreshed, rect.skipped, rect.fill, .bar rect, line.due, line.late')) {
		const fill = element.localName === 'line' || style(element).fill.startsWith('url') ?
			style(element).stroke : style(element).fill;
		const ratio = contrast(fill, background);
		if (ratio < 3)
			found.faint_shapes.push(told(element, ratio));
	}
	found.scheme = luminance(background) > 0.5 ? 'light' : 'dark';
}

function describe(root) {
	const all = [...root.querySelectorAll('*')];
	const count = selector => root.querySelectorAll(selector).length;
	found.title = root.title;
	found.views = count('tr.view');
	found.bars = count('svg.bar');
	found.failures = count('li.failure');
	found.names = [...root.querySelectorAll('tr.view th bdi')].map(e => e.textContent);
	found.references = all.flatMap(e => [...e.attributes])
		.filter(a => ['src', 'href', 'xlink:href', 'action', 'data', 'srcset', 'background'].includes(a.name))
		.map(a => a.value)
		.concat(root.querySelector('style').textContent.match(/@import|url\((?!#)/g) ?? []);
	found.active = all.filter(e => ['script', 'img', 'iframe', 'object', 'embed', 'link', 'form', 'base', 'a',
		'foreignobject', 'use', 'image', 'animate', 'set'].includes(e.localName.toLowerCase()) ||
		[...e.attributes].some(a => a.name.startsWith('on'))).map(e => e.outerHTML.slice(0, 100));
}

async function look() {
	compareTrees();
	found.widths = [];
	for (const width of widths) {
		const frame = await load(width);
		const root = frame.contentDocument;
		const edge = root.documentElement;
		found.widths.push({
			width,
			overflow: edge.scrollWidth - edge.clientWidth,
			smallest: Math.min(...texts(root).map(e => parseFloat(frame.contentWindow.getComputedStyle(e).fontSize))),
		});
		if (width === widths[widths.length - 1]) {
			describe(root);
			faint(root);
		}
		found.hacked = found.hacked || frame.contentWindow.hacked !== undefined;
	}
	found.hacked = found.hacked || window.hacked !== undefined;
}

async function lookAtPictures() {
	found.pictures = {};
	for (const [name, source] of Object.entries(pictures)) {
		const image = new Image();
		const loaded = new Promise((done, failed) => { image.onload = done; image.onerror = failed; });
		image.src = source;
		await loaded;
		const canvas = document.createElement('canvas');
		canvas.width = image.width;
		canvas.height = image.height;
		const context = canvas.getContext('2d');
		context.drawImage(image, 0, 0);
		const data = context.getImageData(0, 0, image.width, image.height).data;
		const colours = new Map();
		let brightness = 0;
		for (let i = 0; i < data.length; i += 4) {
			const colour = data[i] << 16 | data[i + 1] << 8 | data[i + 2];
			colours.set(colour, (colours.get(colour) ?? 0) + 1);
			brightness += (data[i] + data[i + 1] + data[i + 2]) / 3;
		}
		found.pictures[name] = {
			width: image.width,
			background: Math.max(...colours.values()) / (data.length / 4),
			colours: colours.size,
			brightness: brightness / (data.length / 4),
		};
	}
}

(async () => {
	try {
		if (page !== '')
			await look();
		await lookAtPictures();
	} catch (error) {
		found.error = String(error.stack ?? error);
	}
	const result = document.createElement('pre');
	result.id = 'found';
	result.textContent = btoa(unescape(encodeURIComponent(JSON.stringify(found))));
	document.body.append(result);
})();
