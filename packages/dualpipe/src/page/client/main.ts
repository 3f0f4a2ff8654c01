// The page's script: begins with what the page was made with, and what its address says.
import { type OwnSchedule } from '../row-model';
import { type PageState, readAddress } from '../state';
import { byId } from './dom';
import { Page } from './page';

const { state, own } = JSON.parse(byId('data').textContent) as {
  state: PageState;
  own: OwnSchedule | null;
};
new Page(readAddress(window.location.hash, state, own !== null), state, own);
